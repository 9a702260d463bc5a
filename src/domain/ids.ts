/**
 * The ids that the shop chooses: of its users and of what it sells. They are opaque: any text that people can
 * see and that every store keeps as it is.
 */

import { z } from 'zod';
import { MAX_SKU_BYTES, MAX_USER_ID_BYTES } from './limits.ts';

/**
 * Control characters, invisible ones, halves of a surrogate pair, code points that mean nothing, and breaks
 * of a line or a paragraph; and U+FFFD, which stands for bytes that were no text, and so for any of them.
 */
const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}\uFFFD]/u;

/** White space at an end is refused, because MySQL ignores it there when it compares. */
function opaqueId(maxBytes: number) {
  return z.string().refine((text) => {
    const bytes = Buffer.byteLength(text);
    return bytes >= 1 && bytes <= maxBytes && !UNPRINTABLE.test(text) && text === text.trim();
  }, `1 to ${maxBytes} bytes in UTF-8 of printable text, without white space at its ends`);
}

export const userIdSchema = opaqueId(MAX_USER_ID_BYTES);
export const skuSchema = opaqueId(MAX_SKU_BYTES);
