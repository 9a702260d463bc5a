/** Entity tags made of the content of an answer. */

import { hash } from 'node:crypto';

/** Equal texts have equal tags. */
export function entityTagOf(text: string): string {
  return `"${hash('sha256', text, 'base64url')}"`;
}

/**
 * Whether a caller has what this tag names already; `*` matches any (RFC 9110, 13.1.2).
 * @param ifNoneMatch the header, empty without one
 */
export function isKnown(tag: string, ifNoneMatch: string): boolean {
  const known = ifNoneMatch.split(',').map((each) => each.trim().replace(/^W\//, ''));
  return known.includes('*') || known.includes(tag);
}
