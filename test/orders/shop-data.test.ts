/** Tests what a shop may add to an order or a sale, and its bounds. */

import { describe, expect, test } from 'vitest';
import { metadataSchema, nameOf, referenceSchema } from '../../src/orders/content.ts';

describe('referenceSchema', () => {
  test.each(['R-1001', 'gid://shopify/Order/1', 'VXNlcjox==', 'Bestellung 12 / blau', 'ü'.repeat(128)])(
    'takes %j',
    (reference) => {
      expect(referenceSchema.parse(reference)).toBe(reference);
    },
  );

  test.each(['', ' R-1', 'R-1 ', 'a\nb', 'a\0b', '\u202Eab', '\ud800', 'x'.repeat(129), 1, null])(
    'refuses %j',
    (reference) => {
      expect(referenceSchema.safeParse(reference).success).toBe(false);
    },
  );
});

describe('a name', () => {
  test.each([
    ['a family of emoji', '👨‍👩‍👧‍👦 ticket'],
    ['the flag of Wales', '🏴󠁧󠁢󠁷󠁬󠁳󠁿 scarf'],
    ['Persian with a non-joiner', 'می‌خواهم'],
    ['Hindi', 'क्‍ष का कप'],
    ['Sinhala', 'ශ්‍රී ලංකා'],
    ['Arabic with a mark of direction', 'قميص \u200F(XL)'],
    ['Hebrew with vowels', 'שָׁלוֹם'],
  ])('may be %s', (_, name) => {
    expect(nameOf(200).parse(name)).toBe(name);
  });

  test.each([
    ['a control character', 'a\u0007b'],
    ['half a pair of characters', '\udc00'],
    ['a break of a line', 'a\u2028b'],
    ['a turned direction', 'lamp \u202Eged'],
    ['a direction set apart', '\u2067lamp'],
    ['nothing that is seen', '\u200B \u200D'],
  ])('has no %s', (_, name) => {
    expect(nameOf(200).safeParse(name).success).toBe(false);
  });
});

describe('metadataSchema', () => {
  test('takes ten keys and an empty value', () => {
    const keys = Array.from({ length: 10 }, (_, i) => [`key.${i}`, i === 0 ? '' : 'two\nlines']);
    const metadata: unknown = Object.fromEntries(keys);
    expect(metadataSchema.parse(metadata)).toEqual(metadata);
  });

  test.each([
    ['eleven keys', Object.fromEntries(Array.from({ length: 11 }, (_, i) => [`k${i}`, '']))],
    ['a key with a space', { 'a b': '' }],
    ['an empty key', { '': '' }],
    ['a key of 41 characters', { ['k'.repeat(41)]: '' }],
    ['a value of 201 characters', { k: 'x'.repeat(201) }],
    ['a value that is no text', { k: 1 }],
    ['half a pair of characters', { k: '\ud800' }],
    [
      'more than 1,024 bytes',
      Object.fromEntries(Array.from({ length: 6 }, (_, i) => [`k${i}`, 'x'.repeat(200)])),
    ],
    ['what is larger in bytes than in characters', { a: 'ü'.repeat(200), b: '€'.repeat(200), c: '€' }],
    ['a list', ['a']],
    ['null', null],
  ])('refuses %s', (_what, metadata) => {
    expect(metadataSchema.safeParse(metadata).success).toBe(false);
  });
});
