/** Which addresses may be pushed to: no address inside the private network, unless that is allowed. */

import { lookup as resolve, type LookupAddress, type LookupOptions } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Characters of an endpoint's address: what browsers and proxies take as well. */
const MAX_ENDPOINT_URL_CHARS = 2_048;

/** The name or the address is not to be connected to. */
export class ForbiddenAddressError extends Error {
  override name = 'ForbiddenAddressError';
  constructor() {
    super('the address is not public');
  }
}

/** Of IPv6, what is assigned for the public at all (RFC 4291); whatever is outside is special in some way. */
const GLOBAL_IPV6 = ipaddr.parseCIDR('2000::/3');

/**
 * Whether everyone on the internet reaches the same host by this address: not loopback, private, link-local,
 * shared (carrier NAT), multicast, reserved, or a form of IPv6 that carries an IPv4 address.
 */
export function isPublicAddress(address: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.parse(address);
  return parsed.range() === 'unicast' && (parsed.kind() === 'ipv4' || parsed.match(GLOBAL_IPV6));
}

/** Whether the host of a URL is an address as such, and not a public one. */
export function isForbiddenHost({ hostname }: URL): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  return isIP(host) !== 0 && !isPublicAddress(host);
}

type ResolveAll = (
  hostname: string,
  options: { all: true; family?: number },
  done: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

/**
 * Resolves a name to its public addresses alone. A connection is opened to what this returns and nothing is
 * resolved again, so a name that changes meanwhile leads nowhere else.
 * @param resolveAll the system's, unless a test has names of its own
 */
export function lookUpPublic(
  hostname: string,
  options: LookupOptions,
  done: Parameters<LookupFunction>[2],
  resolveAll: ResolveAll = resolve,
): void {
  const family = typeof options.family === 'number' ? options.family : 0;
  resolveAll(hostname, { all: true, family }, (error, found) => {
    if (error) return done(error, '');
    const addresses = found.filter(({ address }) => isPublicAddress(address));
    const [first] = addresses;
    if (!first) return done(new ForbiddenAddressError(), '');
    if (options.all === true) return done(null, addresses);
    return done(null, first.address, first.family);
  });
}

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
