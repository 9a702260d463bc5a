/** What of a sale's figures Redis has: each refusal once, and when unpaid holds end. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { orderKeys, saleKeys, wholeSale } from '../../src/redis/keys.ts';
import { STEP_SECONDS, STEPS } from '../../src/sales/figures.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

const HOUR_S = 3_600;

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(async () => {
  ({ saleId } = await stores.openSale(buildSale()));
});

describe('refused purchases', () => {
  const note = (counts: Record<string, number>, isIncomplete = false) =>
    stores.liveFigures.noteRefused(saleId, new Map(Object.entries(counts)), isIncomplete);
  const read = async (step: (typeof STEPS)[number]) => {
    const nowS = Math.floor((await stores.saleStock.readTimeMs()) / 1_000);
    const fromS = nowS - HOUR_S - (nowS % HOUR_S);
    return (await stores.liveFigures.readLive(saleId, step, fromS, nowS + HOUR_S)).refused;
  };

  test.each(STEPS)('of several processes are added up by reason and %s', async (step) => {
    await Promise.all([note({ sold_out: 3, limit_reached: 1 }), note({ sold_out: 4 })]);
    const { sums, points } = await read(step);
    expect(sums).toEqual({ sold_out: 7, limit_reached: 1 });
    const counts = [...points.values()];
    expect(counts.reduce((sum, point) => sum + (point['sold_out'] ?? 0), 0)).toBe(7);
    expect(counts.reduce((sum, point) => sum + (point['limit_reached'] ?? 0), 0)).toBe(1);
    expect([...points.keys()].every((beginsS) => beginsS % STEP_SECONDS[step] === 0)).toBe(true);
  });

  test('are kept for hours alone, and their sums until the sale is forgotten or for a month', async () => {
    await note({ sold_out: 1 });
    const keys = await stores.redis.keys(`holdfast:{${saleId}.0}:refused:*`);
    const days = new Map<string, number>();
    for (const key of keys)
      days.set(key.split(':')[3] ?? '', Math.round((await stores.redis.pttl(key)) / 86_400_000));
    expect(Object.fromEntries(days)).toEqual({ second: 0, minute: 1, hour: 1, sums: 30 });
    expect(await stores.forgetting.forgetSale(wholeSale(saleId))).toBe('forgotten');
    expect(await stores.redis.exists(saleKeys(wholeSale(saleId)).refused('sums', 0))).toBe(0);
  });

  test('are complete since counts of them were last lost', async () => {
    await note({ sold_out: 1 });
    const nowMs = await stores.saleStock.readTimeMs();
    expect((await read('minute')).sinceMs).toBeLessThan(nowMs - 80_000_000);
    await note({}, true);
    expect((await read('minute')).sinceMs).toBeGreaterThan(nowMs - 2_000);
  });

  test('begin anew where a key of theirs is damaged', async () => {
    await stores.redis.set(saleKeys(wholeSale(saleId)).refused('sums', 0), 'a text');
    await expect(note({ sold_out: 1 })).rejects.toThrow('WRONGTYPE');
    await note({ sold_out: 2 }, true);
    expect((await read('hour')).sums).toEqual({ sold_out: 2 });
  });

  test('that Redis has lost with the sale are complete since its rebuild, and orders stay counted', async () => {
    await stores.orders.storeOrder(buildOrder({ saleId }), 'due');
    await dispatchEvents(stores);
    await note({ sold_out: 1 });
    const keys = await stores.redis.keys(`holdfast:{${saleId}.0}:*`);
    await stores.redis.del(...keys);
    const before = await stores.saleFigures.readComplete(saleId);
    await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'lost' });

    const { redisSinceMs } = await stores.saleFigures.readComplete(saleId);
    expect(redisSinceMs).toBeGreaterThanOrEqual(before.nowMs);
    expect((await read('minute')).sums).toEqual({});
    expect(await stores.saleFigures.readTotals([saleId])).toMatchObject([{ accepted: 1 }]);
  });
});

test('unpaid holds are counted by the minute in which they end, and paid ones are not', async () => {
  const orders = await Promise.all(
    Array.from({ length: 6 }, (_, i) => acceptOrder(stores, saleId, { userId: `user-${i}` })),
  );
  const [paid, ...held] = orders;
  await stores.reservations.confirm(paid?.orderNo ?? '');
  const nowMs = await stores.saleStock.readTimeMs(saleId);
  const minuteMs = nowMs - (nowMs % 60_000) + 5 * 60_000;
  const ends = [nowMs - 120_000, minuteMs, minuteMs + 59_999, minuteMs + 60_000, nowMs + 5 * HOUR_S * 1_000];
  for (const [i, { orderNo }] of held.entries())
    await stores.redis.zadd(orderKeys(orderNo).deadlines, 'XX', ends[i] ?? 0, orderNo);

  const { holds } = await stores.liveFigures.readLive(saleId, 'minute', 0, 0);
  expect(holds).toEqual({
    overdue: 1,
    minutes: [
      { beginsMs: minuteMs, holds: 2 },
      { beginsMs: minuteMs + 60_000, holds: 1 },
    ],
    later: 1,
  });
});
