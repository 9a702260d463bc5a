/**
 * What a shop adds to a sale, a SKU or an order for its own use: a reference and metadata. Holdfast keeps
 * both, shows them and hands them on, and reads nothing from them.
 */

import { z } from 'zod';
import {
  MAX_METADATA_BYTES,
  MAX_METADATA_KEYS,
  MAX_METADATA_VALUE_CHARS,
  MAX_REFERENCE_CHARS,
  METADATA_KEY_PATTERN,
} from './limits.ts';

/** Control characters, invisible ones, and halves of a pair that stand alone. */
const UNPRINTABLE = /\p{C}/u;
/** Half of a pair of characters: no text that MySQL or another language could store. */
const LONE_SURROGATE = /\p{Cs}/u;

/** The shop's own number or name of a thing. White space at an end would be lost where MySQL compares. */
export const referenceSchema = z
  .string()
  .min(1)
  .max(MAX_REFERENCE_CHARS)
  .refine((text) => !UNPRINTABLE.test(text), 'printable characters only')
  .refine((text) => text.trim() === text, 'no white space at either end');

export const metadataSchema = z
  .record(
    z.string().regex(METADATA_KEY_PATTERN),
    z
      .string()
      .max(MAX_METADATA_VALUE_CHARS)
      .refine((text) => !LONE_SURROGATE.test(text), 'well-formed text only'),
  )
  .refine(
    (metadata) => Object.keys(metadata).length <= MAX_METADATA_KEYS,
    `at most ${MAX_METADATA_KEYS} keys`,
  )
  .refine(
    (metadata) => Buffer.byteLength(JSON.stringify(metadata)) <= MAX_METADATA_BYTES,
    `at most ${MAX_METADATA_BYTES} bytes as JSON`,
  );
