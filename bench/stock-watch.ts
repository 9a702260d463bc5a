/** Checks the stock in both stores all the time: in each, total = available + held + sold, at every look. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import type { StockCount } from '../src/sales/sale.ts';
import type { BenchCheckout } from './checkout.ts';

const LOOK_EVERY_MS = 50;

export function watchStock({ stores: { sales, saleStock } }: BenchCheckout, saleId: string) {
  let looks = 0;
  const over = new AbortController();

  async function look(): Promise<{ redis: StockCount[]; mysql: StockCount[] }> {
    const [view, mysql] = await Promise.all([saleStock.read(saleId), sales.readStock(saleId)]);
    assert(view, `Redis has sale ${saleId}`);
    for (const { sku, total, available, held, sold } of [...view.skus, ...mysql]) {
      assert.equal(total, available + held + sold, `the stock equation of ${sku}`);
      assert(Math.min(available, held, sold) >= 0, `nothing of ${sku} is negative`);
    }
    looks += 1;
    return { redis: view.skus, mysql };
  }

  async function watch(): Promise<void> {
    while (!over.signal.aborted) {
      await look();
      await delay(LOOK_EVERY_MS);
    }
  }

  const watching = watch();
  return {
    look,
    /** Ends the watch; throws what it found. @returns how often it looked */
    async end(): Promise<number> {
      over.abort();
      await watching;
      return looks;
    },
  };
}
