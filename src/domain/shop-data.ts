/**
 * What a shop adds to a sale, a SKU or an order for its own use: a reference and metadata, which Holdfast
 * keeps, shows and hands on, and reads nothing from; and to an order charges and the ticket that it spent.
 */

import { z } from 'zod';
import {
  MAX_CHARGE_NAME_CHARS,
  MAX_CHARGES,
  MAX_CHARGES_BYTES,
  MAX_METADATA_BYTES,
  MAX_METADATA_KEYS,
  MAX_METADATA_VALUE_CHARS,
  MAX_REFERENCE_CHARS,
  MAX_UNIT_PRICE,
  METADATA_KEY_PATTERN,
} from './limits.ts';

/** Control characters, invisible ones, and halves of a pair that stand alone. */
const UNPRINTABLE = /\p{C}/u;
/** Half of a pair of characters: no text that MySQL or another language could store. */
const LONE_SURROGATE = /\p{Cs}/u;

/** At a provider the metadata stand beside Holdfast's own, whose keys begin so. */
const OWN_PREFIX = 'holdfast_';

function printable(maxChars: number) {
  return z
    .string()
    .min(1)
    .max(maxChars)
    .refine((text) => !UNPRINTABLE.test(text), 'printable characters only')
    .refine((text) => text.trim() === text, 'no white space at either end');
}

/** The shop's own number or name of a thing. White space at an end would be lost where MySQL compares. */
export const referenceSchema = printable(MAX_REFERENCE_CHARS);

export const metadataSchema = z
  .record(
    z
      .string()
      .regex(METADATA_KEY_PATTERN)
      .refine((key) => !key.startsWith(OWN_PREFIX), `no key that begins with ${OWN_PREFIX}`),
    z
      .string()
      .max(MAX_METADATA_VALUE_CHARS)
      .refine((text) => !LONE_SURROGATE.test(text), 'well-formed text only'),
  )
  .refine(
    (metadata) => Object.keys(metadata).length <= MAX_METADATA_KEYS,
    `at most ${MAX_METADATA_KEYS} keys`,
  )
  .refine(isAtMost(MAX_METADATA_BYTES), `at most ${MAX_METADATA_BYTES} bytes as JSON`);

const chargeSchema = z.strictObject({
  code: z.string().regex(METADATA_KEY_PATTERN),
  name: printable(MAX_CHARGE_NAME_CHARS),
  amount: z.int().min(-MAX_UNIT_PRICE).max(MAX_UNIT_PRICE),
});

/** Lines that a ticket adds to an order. */
export const chargesSchema = z
  .array(chargeSchema)
  .max(MAX_CHARGES)
  .refine(isAtMost(MAX_CHARGES_BYTES), `at most ${MAX_CHARGES_BYTES} bytes as JSON`);

function isAtMost(bytes: number): (value: unknown) => boolean {
  return (value) => Buffer.byteLength(JSON.stringify(value)) <= bytes;
}
