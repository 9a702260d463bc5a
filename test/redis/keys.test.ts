/** Keys and fields that are made of ids: no two pairs of ids share one, and what was put in comes out. */

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { IDEMPOTENCY_KEY_PATTERN } from '../../src/orders/content.ts';
import { skuSchema, userIdSchema } from '../../src/orders/content.ts';
import { limitField, parseLimitField, saleKeys } from '../../src/redis/keys.ts';
import { assertProperty } from '../support/property.ts';

/** Mostly of the characters that keys are put together with, so that two pairs come close to each other. */
const text = fc.oneof(
  fc.string({ unit: fc.constantFrom(':', '%', '3', 'A', '2', '5', 'a', '}'), minLength: 1, maxLength: 5 }),
  fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }),
);
const sku = text.filter((id) => skuSchema.safeParse(id).success);
const userId = text.filter((id) => userIdSchema.safeParse(id).success);
const key = text.filter((id) => IDEMPOTENCY_KEY_PATTERN.test(id));
const { idem } = saleKeys({ saleId: 'summer', shard: 0 });

test('no two pairs of a SKU and a user share a field of the limits, and each field names its pair', async () => {
  await assertProperty(
    fc.property(fc.uniqueArray(fc.tuple(sku, userId), { selector: String, maxLength: 50 }), (pairs) => {
      const fields = pairs.map(([ofSku, ofUser]) => limitField(ofSku, ofUser));
      expect(fields.map(parseLimitField)).toEqual(
        pairs.map(([ofSku, ofUser]) => ({ sku: ofSku, userId: ofUser })),
      );
      expect(new Set(fields).size).toBe(new Set(pairs.map((pair) => JSON.stringify(pair))).size);
    }),
    { numRuns: 500 },
  );
});

test('no two pairs of a user and an idempotency key share a key', async () => {
  const pair = fc.tuple(userId, key);
  await assertProperty(
    fc.property(pair, pair, (one, other) => {
      expect(idem(...one) === idem(...other)).toBe(JSON.stringify(one) === JSON.stringify(other));
    }),
    { numRuns: 2_000 },
  );
});

test.each([
  ['a:b', 'c', 'a', 'b:c'],
  ['a%3Ab', 'c', 'a:b', 'c'],
  ['a%', 'c', 'a%25', 'c'],
])('%s with %s is not %s with %s', (one, its, other, theirs) => {
  expect(limitField(one, its)).not.toBe(limitField(other, theirs));
  expect(idem(one, its)).not.toBe(idem(other, theirs));
});

test('ids of letters, digits and the usual signs keep the fields and keys that they had', () => {
  expect(limitField('lamp-1.5_x', 'auth0|ada@example.com')).toBe('lamp-1.5_x:auth0|ada@example.com');
  expect(idem('auth0|ada@example.com', 'k:1')).toBe('holdfast:{summer.0}:idem:auth0|ada@example.com:k:1');
});
