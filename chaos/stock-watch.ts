/**
 * Checks the stock in both stores all the time: in each,
 * total = available + held + sold, whatever has just died.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { StockCount } from '../src/sales/sale.ts';
import type { StockSample, Violation } from './history.ts';
import type { System } from './system.ts';

const LOOK_EVERY_MS = 100;

/** @param samples gets what Redis had at each look; a store that does not answer gives none */
export function watchStock({ stores }: Pick<System, 'stores'>, saleId: string, samples: StockSample[]) {
  const broken: Violation[] = [];
  const over = new AbortController();

  async function lookAtRedis(): Promise<void> {
    const startMs = Date.now();
    const before = await stores.saleStock.checkLife(saleId);
    const view = await stores.saleStock.read(saleId);
    const after = await stores.saleStock.checkLife(saleId);
    const counts = view?.skus ?? [];
    // Else no witness: the data may be older than a loss, and a rebuild may be about to count them anew.
    const isWitness = before.kind === 'well' && after.kind === 'well';
    const available = new Map((isWitness ? counts : []).map((count) => [count.sku, count.available]));
    samples.push({ startMs, endMs: Date.now(), available });
    check('Redis', counts);
  }

  async function lookAtMysql(): Promise<void> {
    check('MySQL', await stores.sales.readStock(saleId));
  }

  function check(store: string, counts: readonly StockCount[]): void {
    for (const { sku, total, available, held, sold } of counts) {
      if (total === available + held + sold && Math.min(available, held, sold) >= 0) continue;
      const detail = `${store}: ${total} = ${available} + ${held} + ${sold}`;
      broken.push({ check: 'stock adds up at every instant', subject: sku, detail });
    }
  }

  async function watch(look: () => Promise<void>): Promise<void> {
    while (!over.signal.aborted) {
      // A store that is struck does not answer; it is checked again when it is back.
      await look().catch(() => {});
      await delay(LOOK_EVERY_MS);
    }
  }

  const watching = Promise.all([watch(lookAtRedis), watch(lookAtMysql)]);
  return {
    broken,
    async end(): Promise<void> {
      over.abort();
      await watching;
    },
  };
}
