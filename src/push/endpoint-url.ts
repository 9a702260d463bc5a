/** Which addresses a shop may give to an endpoint. What a name resolves to is checked at each connection. */

import { MAX_ENDPOINT_URL_CHARS } from '../domain/limits.ts';
import { isForbiddenHost } from './address.ts';

/** What a deployment allows. */
export interface UrlRules {
  /** Also addresses of the private network, and of this machine. */
  allowPrivate: boolean;
  requireHttps: boolean;
}

/** Names that never leave the machine or the local network (RFC 6761, RFC 6762, ICANN's `internal`). */
const LOCAL_NAME = /(?:^|\.)(?:localhost|local|internal)\.?$/;

/** @returns the address as it is kept, or what is wrong with it */
export function parseEndpointUrl(text: string, { allowPrivate, requireHttps }: UrlRules): URL | string {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (!url || !['http:', 'https:'].includes(url.protocol)) return 'must be an https address';
  if (requireHttps && url.protocol !== 'https:') return 'must begin with https';
  if (url.username !== '' || url.password !== '') return 'must carry no user and no password';
  if (url.hash !== '') return 'must have no fragment';
  if (url.href.length > MAX_ENDPOINT_URL_CHARS)
    return `must have at most ${MAX_ENDPOINT_URL_CHARS} characters`;
  if (!allowPrivate && (LOCAL_NAME.test(url.hostname) || isForbiddenHost(url)))
    return 'must not be inside a private network';
  return url;
}
