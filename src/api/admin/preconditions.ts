/** The conditions that a caller puts on a change (RFC 9110, 13.1). */

import type { Context } from 'koa';
import { Problem } from '../http/problem.ts';

/**
 * `If-Match`: the versions that the caller knows; `any`: whichever, if it exists. A tag that is not ours
 * matches nothing, and neither does a weak one.
 */
export function ifMatchOf(ctx: Context): readonly number[] | 'any' | undefined {
  const { 'if-match': header } = ctx.req.headers;
  if (header === undefined) return undefined;
  if (header.trim() === '*') return 'any';
  return header.split(',').flatMap((tag) => {
    const version = /^"(\d{1,9})"$/.exec(tag.trim())?.[1];
    return version === undefined ? [] : [Number(version)];
  });
}

/** `If-None-Match: *`: only where there is none yet. */
export function isNewAsked(ctx: Context): boolean {
  const { 'if-none-match': header } = ctx.req.headers;
  if (header === undefined) return false;
  if (header.trim() === '*') return true;
  const faults = [{ path: 'If-None-Match', message: 'only *' }];
  throw new Problem('invalid_request', 'The request is not as it must be.', { extra: { faults } });
}
