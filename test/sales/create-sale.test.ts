/** A sale is created only when the payment provider takes its prices. */

import { expect, test } from 'vitest';
import { amountRulesOf } from '../../src/providers/open.ts';
import { createSale, SaleRefusedError, type SaleFault } from '../../src/sales/create-sale.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { buildSale } from '../support/factories.ts';

const stripe = amountRulesOf('stripe');

/** @returns what is wrong with the sale, at Stripe by default; nothing when it was created */
async function refuse(overrides: Partial<Sale>, provider = stripe): Promise<readonly SaleFault[]> {
  const sale = buildSale(overrides);
  const created: Sale[] = [];
  const sales = { create: async (each: Sale) => void created.push(each) };
  try {
    await createSale({ sales, provider }, sale);
  } catch (error) {
    if (!(error instanceof SaleRefusedError)) throw error;
    expect(created).toEqual([]);
    return error.faults;
  }
  expect(created).toEqual([sale]);
  return [];
}

const sku = (name: string, unitPrice: number, limitPerUser: number | null = null) => ({
  sku: name,
  name,
  unitPrice,
  total: 10,
  limitPerUser,
});

test.each([
  ['EUR', 50],
  ['EUR', 99_999_999],
  ['JPY', 50],
  ['HUF', 17_500],
  ['KWD', 12_340],
  ['IDR', 999_999_999_999],
  ['COP', 9_999_999_999],
  ['PEN', 1],
])('a sale of %s %i is created', async (currency, unitPrice) => {
  expect(await refuse({ currency, skus: [sku('lamp', unitPrice)] })).toEqual([]);
});

test.each([
  ['below the least', 'EUR', 49],
  ['below the least', 'JPY', 49],
  ['below the least', 'HUF', 17_499],
  ['above the most', 'EUR', 100_000_000],
  ['above the most', 'COP', 10_000_000_000],
  ['above the most, without decimals', 'JPY', 100_000_000],
  ['not a step of ten', 'KWD', 12_345],
  ['counted in another unit', 'ISK', 5_000],
  ['in a currency that Stripe does not take', 'KPW', 5_000],
])('a sale with a price that is %s, %s %i, is refused', async (_why, currency, unitPrice) => {
  const faults = await refuse({ currency, skus: [sku('lamp', unitPrice)] });

  expect(faults).toEqual([{ path: 'skus.0.unitPrice', message: expect.stringContaining('lamp: ') }]);
  expect(faults[0]?.message).toContain(currency);
});

test('all SKUs whose price is refused are named', async () => {
  const skus = [sku('lamp', 10), sku('mug', 1_450), sku('pin', 20)];

  expect((await refuse({ skus })).map(({ path }) => path)).toEqual(['skus.0.unitPrice', 'skus.2.unitPrice']);
});

test('a limit per user that allows an order of more than the provider takes is refused', async () => {
  const skus = [sku('ship', 60_000_000, 2), sku('boat', 60_000_000, 1)];

  expect(await refuse({ skus })).toEqual([
    { path: 'skus.0.limitPerUser', message: expect.stringContaining('2 of ship: 120000000 is above') },
  ]);
});

test('limits that together allow a cart of more than the provider takes are refused', async () => {
  const skus = [sku('ship', 60_000_000, 1), sku('boat', 60_000_000, 1)];

  expect(await refuse({ skus })).toEqual([
    { path: 'skus', message: expect.stringContaining('the fullest cart: 120000000') },
  ]);
  expect(await refuse({ skus: [...skus, sku('mug', 1_450)] })).toEqual([]);
});

test('the sandbox takes every price that a sale may have', async () => {
  const provider = amountRulesOf('sandbox');

  expect(await refuse({ currency: 'KPW', skus: [sku('pin', 1, 2)] }, provider)).toEqual([]);
});

test('a sale whose units together cost more than a number holds exactly is refused', async () => {
  const provider = amountRulesOf('sandbox');
  const worth = (total: number) => ({ currency: 'IDR', skus: [{ ...sku('villa', 999_999_999_999), total }] });
  expect(await refuse(worth(9_007), provider)).toEqual([]);
  expect(await refuse(worth(9_008), provider)).toEqual([
    { path: 'skus', message: 'all units together cost more than 9007199254740991' },
  ]);
});

test('what is no sale at all is refused before its prices are looked at', async () => {
  await expect(refuse({ skus: [] })).rejects.toThrow('skus');
});
