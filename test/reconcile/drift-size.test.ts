/** Drift is found however many orders a sale holds; a sale that could not be compared is shown as such. */

import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { mendDrift } from '../../src/reconcile/drift.ts';
import { DRIFT_KEY, orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

/** More than two pages of the walk over held orders. */
const SOME_PAGES = 1_100;

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** A run looks at every sale that Redis has. */
beforeEach(() => stores.redis.flushall());

/** @param parts stores that the step has instead */
const run = (parts: Partial<TestStores> = {}) =>
  mendDrift({ ...stores, ...parts, log: silent }, new AbortController().signal);

const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });
const lampOf = async (saleId: string) => (await stores.saleStock.read(saleId))?.skus[0];
const parkedOf = (reference: string) =>
  select(stores.pool, 'SELECT kind, cause, settled_by FROM parked WHERE reference = ?', [reference]);

/** A sale that has reserved so many lamps, one an order and a user. @returns the orders' numbers too */
async function openBusySale(orders: number): Promise<{ saleId: string; orderNos: string[] }> {
  const total = 2 * orders;
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const orderNos: string[] = [];
  const reserve = async (i: number) => {
    const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId, userId: `user-${i}` }));
    if (outcome.kind !== 'reserved') throw new Error(outcome.kind);
    orderNos.push(outcome.orderNo);
  };
  for (let from = 0; from < orders; from += 500) {
    const left = Math.min(500, orders - from);
    await Promise.all(Array.from({ length: left }, (_, i) => reserve(from + i)));
  }
  return { saleId, orderNos };
}

async function storeAll(orderNos: readonly string[]): Promise<void> {
  for (let from = 0; from < orderNos.length; from += 500) {
    const found = await stores.reservations.readOrders(orderNos.slice(from, from + 500));
    await stores.orders.storeOrders(
      found.flatMap((reserved) => (reserved ? [reserved.order] : [])),
      'started',
    );
  }
}

test('a count that is off is corrected, though more than twenty thousand orders are held', async () => {
  const { saleId } = await openBusySale(20_001);
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
  await stores.redis.hincrby(keysOf(saleId).stock, 'lamp:available', 1);

  expect(await run()).toMatchObject({ repaired: 1, parked: 0 });

  expect(await lampOf(saleId)).toMatchObject({ available: 20_001, held: 20_001, sold: 0 });
});

/** Between pages an order that was seen ends, one that was not, and one is reserved and ends. */
function tradingAmidEachLook(orderNos: readonly string[], saleId: string): TestStores['saleMends'] {
  const [first, last] = [[...orderNos], orderNos.toReversed()];
  const end = async (orderNo: string | undefined, isPaid: boolean) => {
    if (orderNo === undefined) return;
    const stored = await stores.orders.read(orderNo);
    if (!stored || stored.state.status !== 'awaiting_payment') return;
    if (!isPaid) {
      await stores.orders.cancel(orderNo, 'payment_timeout', { force: true });
      await stores.reservations.release(orderNo);
      return;
    }
    const { total: amount, currency } = stored.order;
    const providerPaymentId = `pay_${orderNo}`;
    await stores.payments.record('sandbox', {
      providerPaymentId,
      orderNo,
      amount,
      currency,
      signedOrder: null,
    });
    await stores.reservations.confirm(orderNo);
  };
  const trade = async () => {
    for (const isPaid of [true, false]) {
      await end(first.shift(), isPaid);
      await end(last.shift(), isPaid);
    }
    const short = await acceptOrder(stores, saleId, { userId: 'eve' });
    await stores.orders.storeOrder(short, 'started');
    await end(short.orderNo, true);
    await acceptOrder(stores, saleId, { userId: 'eve' });
  };
  return {
    ...stores.saleMends,
    walkHeld(...call) {
      const walk = stores.saleMends.walkHeld(...call);
      return {
        ...walk,
        async *pages() {
          await trade();
          for await (const page of walk.pages()) {
            yield page;
            await trade();
          }
        },
      };
    },
  };
}

test('orders that begin and end between the pages of a look are no drift, and drift is corrected meanwhile', async () => {
  const { saleId, orderNos } = await openBusySale(SOME_PAGES);
  await storeAll(orderNos);
  const saleMends = tradingAmidEachLook(orderNos, saleId);

  expect(await run({ saleMends })).toMatchObject({ repaired: 0, parked: 0 });
  await stores.redis.hincrby(keysOf(saleId).stock, 'lamp:held', 3);
  await stores.redis.hincrby(keysOf(saleId).limits, `lamp:user-${SOME_PAGES - 50}`, 1);
  expect(await run({ saleMends })).toMatchObject({ repaired: 2, parked: 0 });

  const lamp = await lampOf(saleId);
  expect(lamp?.held).toBe(await stores.redis.zcard(keysOf(saleId).deadlines));
  expect(lamp?.sold).toBeGreaterThan(0);
  expect(lamp && lamp.available + lamp.held + lamp.sold).toBe(2 * SOME_PAGES);
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
});

test('missing holds are found behind many others, and what they take is not put on sale meanwhile', async () => {
  const { saleId, orderNos } = await openBusySale(SOME_PAGES);
  await storeAll(orderNos);
  const [unlisted, lost] = [orderNos[0] ?? '', orderNos.at(-1) ?? ''];
  await stores.redis.zrem(keysOf(saleId).deadlines, unlisted);
  await stores.redis.del(orderKeys(lost).order);

  expect(await run()).toMatchObject({ repaired: 2, parked: 0 });

  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
  expect(await lampOf(saleId)).toMatchObject({ available: SOME_PAGES, held: SOME_PAGES, sold: 0 });
  expect(await stores.redis.zcard(keysOf(saleId).deadlines)).toBe(SOME_PAGES);
  expect(await stores.redis.hget(orderKeys(lost).order, 'hold')).toBe('held');
});

test('where Redis has lost all holds, each run writes a part of them again', async () => {
  const { saleId, orderNos } = await openBusySale(SOME_PAGES);
  await storeAll(orderNos);
  await stores.redis.del(keysOf(saleId).deadlines);

  expect(await run()).toMatchObject({ repaired: 1_000, parked: 0 });
  expect(await run()).toMatchObject({ repaired: SOME_PAGES - 1_000, parked: 0 });

  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
  expect(await lampOf(saleId)).toMatchObject({ available: SOME_PAGES, held: SOME_PAGES, sold: 0 });
});

test('a sale that three runs cannot compare is as old in the metric as its last whole look, and parked until the next', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const other = await stores.openSale(buildSale());
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
  const before = await stores.driftBoard.read();
  expect(await parkedOf(saleId)).toEqual([]);
  await stores.redis.hset(keysOf(saleId).sale, 'rebuilding', '2');

  for (const parked of [0, 0, 1]) expect(await run()).toMatchObject({ repaired: 0, parked });

  const skipped = await stores.driftBoard.read();
  expect(skipped?.lookedAtMs).toBe(before?.sales?.[saleId]);
  expect(skipped?.sales?.[other.saleId]).toBeGreaterThan(before?.sales?.[other.saleId] ?? Infinity);
  expect(await parkedOf(saleId)).toEqual([{ kind: 'sale', cause: 'sale_not_compared', settled_by: null }]);

  await stores.redis.hdel(keysOf(saleId).sale, 'rebuilding');
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });
  expect((await stores.driftBoard.read())?.lookedAtMs).toBeGreaterThan(skipped?.lookedAtMs ?? Infinity);
  expect(await parkedOf(saleId)).toEqual([{ kind: 'sale', cause: 'sale_not_compared', settled_by: 'rules' }]);
});

test('of two looks at a sale at once the first is left out, and the second compares', async () => {
  const { saleId } = await openBusySale(2);
  const first = await stores.saleMends.look(saleId, []);
  if (first.kind !== 'looked') throw new Error(first.kind);
  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });

  const walk = stores.saleMends.walkHeld(saleId, first);
  await expect(walk.pages().next()).rejects.toThrow('another look');
  // It takes nothing away from a later one.
  const second = await stores.saleMends.look(saleId, []);
  if (second.kind !== 'looked') throw new Error(second.kind);
  await walk.end();
  const pages = stores.saleMends.walkHeld(saleId, second).pages();
  expect((await pages.next()).value).toHaveLength(2);
});

test('what is left in Redis of a sale that is long over is neither compared nor parked', async () => {
  const dayMs = 24 * 60 * 60 * 1_000;
  const { saleId } = await stores.openSale(buildSale());
  await stores.redis.del(keysOf(saleId).sale);
  await stores.pool.query('UPDATE sales SET settled_at = NOW(3), closes_at = ? WHERE sale_id = ?', [
    new Date(Date.now() - 400 * dayMs),
    saleId,
  ]);

  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });

  expect(await parkedOf(saleId)).toEqual([]);
});

test('a sale that is left out again is shown again, also after an operator has resolved it', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const { sale } = keysOf(saleId);
  const missed = { [saleId]: { runs: 2, why: 'the run before could not' } };
  const missedTwice = () => stores.driftBoard.publish({ lookedAtMs: 0, entries: [], missed });
  await missedTwice();
  await stores.redis.hset(sale, 'rebuilding', '2');
  await run();
  await stores.pool.query(
    `UPDATE parked SET resolved_at = NOW(3), settled_by = 'operator' WHERE reference = ?`,
    [saleId],
  );
  await run();
  expect(await parkedOf(saleId)).toMatchObject([{ settled_by: 'operator' }]);
  await stores.redis.hdel(sale, 'rebuilding');
  await run();

  await missedTwice();
  await stores.redis.hset(sale, 'rebuilding', '3');
  await run();

  expect(await parkedOf(saleId)).toMatchObject([{ settled_by: null }]);
});

test("orders of a later time than Redis' clock are not taken for later than the look: it was set back", async () => {
  const { saleId, orderNos } = await openBusySale(3);
  await storeAll(orderNos);
  const { deadlines, order } = keysOf(saleId);
  const hourMs = 60 * 60 * 1_000;
  for (const orderNo of orderNos) {
    await stores.redis.hincrby(order(orderNo), 'reserved_at', hourMs);
    await stores.redis.zincrby(deadlines, hourMs, orderNo);
  }
  await stores.pool.query(
    'UPDATE orders SET reserved_at = reserved_at + INTERVAL 1 HOUR WHERE order_no IN (?)',
    [orderNos],
  );

  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });

  const missed = (await stores.driftBoard.read())?.missed?.[saleId];
  expect(missed?.why).toBe("it has orders of a later time than Redis' clock shows");
  expect(await lampOf(saleId)).toMatchObject({ available: 3, held: 3, sold: 0 });
});

test('a sale for which runs have no time comes first in the next run, and is neither parked nor taken back', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  const saleIds = [await stores.openSale(buildSale()), await stores.openSale(buildSale())].map(
    (opened) => opened.saleId,
  );
  const looked: string[] = [];
  const saleMends: TestStores['saleMends'] = {
    ...stores.saleMends,
    look(saleId, fields) {
      looked.push(saleId);
      vi.advanceTimersByTime(3 * 60_000);
      return stores.saleMends.look(saleId, fields);
    },
  };

  expect(await run({ saleMends })).toMatchObject({ repaired: 0, parked: 0 });
  expect(await run({ saleMends })).toMatchObject({ repaired: 0, parked: 0 });

  expect(looked).toHaveLength(2);
  expect(new Set(looked)).toEqual(new Set(saleIds));
  expect(await select(stores.pool, 'SELECT * FROM parked WHERE reference IN (?)', [saleIds])).toEqual([]);
  const [waiting = ''] = looked;
  const missed = { [waiting]: { runs: 3, why: 'it could not be compared' } };
  await stores.driftBoard.publish({ lookedAtMs: 0, entries: [], sales: { [waiting]: 1 }, missed });

  expect(await run({ saleMends })).toMatchObject({ repaired: 0, parked: 1 });
  expect(looked).toHaveLength(3);
});

test('a board that cannot be read is written anew', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await stores.redis.set(DRIFT_KEY, 'no JSON');

  expect(await run()).toMatchObject({ repaired: 0, parked: 0 });

  expect(Object.keys((await stores.driftBoard.read())?.sales ?? {})).toEqual([saleId]);
});
