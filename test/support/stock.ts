/** Checks the promise about stock in both stores: total = available + held + sold. */

import { expect } from 'vitest';
import type { StockCount } from '../../src/sales/sale.ts';
import type { TestStores } from './stores.ts';
import { waitFor } from './wait.ts';

type Reads = Pick<TestStores, 'saleStock' | 'sales'>;

export interface BothStocks {
  redis: StockCount[];
  mysql: StockCount[];
}

/** total = available + held + sold for every SKU, in Redis and in MySQL; no count is negative. */
export async function expectStockEquation(stores: Reads, saleId: string): Promise<BothStocks> {
  const stocks = await readStocks(stores, saleId);
  for (const count of [...stocks.redis, ...stocks.mysql]) {
    const { total, available, held, sold } = count;
    expect(available + held + sold, JSON.stringify(count)).toBe(total);
    expect(Math.min(available, held, sold), JSON.stringify(count)).toBeGreaterThanOrEqual(0);
  }
  return stocks;
}

/** Waits until both stores agree on this SKU, then checks the equation of all. */
export async function expectStock(
  stores: Reads,
  saleId: string,
  expected: Pick<StockCount, 'sku' | 'available' | 'held' | 'sold'>,
): Promise<void> {
  await waitFor(`${JSON.stringify(expected)} in both stores`, async () => {
    const { redis, mysql } = await expectStockEquation(stores, saleId);
    return [redis, mysql].every((counts) => {
      const count = counts.find(({ sku }) => sku === expected.sku);
      return (
        count?.available === expected.available &&
        count.held === expected.held &&
        count.sold === expected.sold
      );
    });
  });
}

async function readStocks({ saleStock, sales }: Reads, saleId: string): Promise<BothStocks> {
  const view = await saleStock.read(saleId);
  expect(view, `sale ${saleId} in Redis`).toBeDefined();
  const redis = (view?.skus ?? []).map(({ sku, total, available, held, sold }) => ({
    sku,
    total,
    available,
    held,
    sold,
  }));
  return { redis, mysql: await sales.readStock(saleId) };
}
