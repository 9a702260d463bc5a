/** Which texts may be a user's id or a SKU, and where the numbers of a sale's orders stand among all. */

import { describe, expect, test } from 'vitest';
import { MAX_SKU_BYTES, MAX_USER_ID_BYTES } from '../../src/orders/content.ts';
import { fingerprintOf, skuSchema, userIdSchema } from '../../src/orders/content.ts';
import { boundsOfSale, formatOrderNo } from '../../src/orders/order.ts';

const isUserId = (text: unknown) => userIdSchema.safeParse(text).success;
const isSku = (text: unknown) => skuSchema.safeParse(text).success;

test.each([
  'VXNlcjox==',
  'gid://shopify/Customer/1',
  'jane+shop@example.com',
  'A 4/2 blue',
  'a:b',
  '%3A',
  "O'Brien",
  '💡',
  '灯',
  'lam\u0301p',
  '__proto__',
])('%s is a user id and a SKU', (text) => {
  expect([isUserId(text), isSku(text)]).toEqual([true, true]);
});

test.each([
  ['nothing', ''],
  ['white space alone', ' '],
  ['white space at its end', 'ada '],
  ['a no-break space at its begin', '\u00A0ada'],
  ['a NUL', 'a\u0000'],
  ['a line break', 'a\nb'],
  ['a line separator', 'a\u2028b'],
  ['a paragraph separator', 'a\u2029b'],
  ['a zero-width space', 'a\u200Bb'],
  ['a change of direction', '\u202Eada'],
  ['half a surrogate pair', 'a\uD83D'],
  ['a character of no meaning', 'a\uFFFF'],
  ['a character that could not be read', 'a\uFFFD'],
  ['a number', 1],
  ['a list', ['ada']],
])('%s is neither', (_, text) => {
  expect([isUserId(text), isSku(text)]).toEqual([false, false]);
});

test.each(['x', '"', 'é', '灯', '💡'])(
  'as many bytes of %s fit as the bound has, and no more',
  (character) => {
    const bytes = Buffer.byteLength(character);
    for (const [isId, bound] of [[isUserId, MAX_USER_ID_BYTES] as const, [isSku, MAX_SKU_BYTES] as const]) {
      const most = character.repeat(Math.floor(bound / bytes));
      expect([isId(most), isId(most + character)]).toEqual([true, false]);
    }
  },
);

test('a fingerprint distinguishes carts whose SKUs look like a quantity', () => {
  const cart = (items: [string, number][]) =>
    fingerprintOf({ saleId: 's', items: items.map(([sku, quantity]) => ({ sku, quantity })) });
  const carts: [string, number][][] = [
    [['a', 1]],
    [['a=1', 1]],
    [['a', 11]],
    [['a=1', 2]],
    [
      ['a', 1],
      ['b', 2],
    ],
    [['a=1","b', 2]],
    [
      ['a', 2],
      ['b', 1],
    ],
  ];

  expect(new Set(carts.map(cart)).size).toBe(carts.length);
});

describe('the bounds of a sale', () => {
  const ULIDS = ['00000000000000000000000000', '01KAJ5T0ZV6Y3QH8M2C4D7E9FG', '7ZZZZZZZZZZZZZZZZZZZZZZZZZ'];
  const numbersOf = (saleId: string) =>
    [1, 2, 10, 999_999_999].flatMap((epoch) =>
      ULIDS.map((ulid) => formatOrderNo({ saleId, shard: 0, epoch, ulid })),
    );
  const isWithin = ([first, last]: readonly string[], orderNo: string) =>
    orderNo > String(first) && orderNo < String(last);

  test('hold the number of each of its orders', () => {
    expect(numbersOf('summer').filter((orderNo) => !isWithin(boundsOfSale('summer', ''), orderNo))).toEqual(
      [],
    );
  });

  test.each([
    'summer-2',
    'summer-0',
    'summer-0-0',
    'summer-0-a',
    'summer-00',
    'summer-sale',
    'summer2',
    'summe',
  ])('hold no number of the sale %s', (other) => {
    expect(numbersOf(other).filter((orderNo) => isWithin(boundsOfSale('summer', ''), orderNo))).toEqual([]);
  });

  test('begin after the last number of the page before, and never before the first of the sale', () => {
    const [before = '', next = ''] = numbersOf('summer');
    const bounds = boundsOfSale('summer', before);
    expect([isWithin(bounds, before), isWithin(bounds, next)]).toEqual([false, true]);
    expect(boundsOfSale('summer', 'a')).toEqual(boundsOfSale('summer', ''));
  });
});
