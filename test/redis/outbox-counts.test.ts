/** The orders that wait in the outboxes of all sales: a process that reserves orders counts them itself. */

import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { saleKeys, SALES_KEY } from '../../src/redis/keys.ts';
import { createOutboxCounts, putIntoOutbox, registerSales } from '../../src/redis/outbox.ts';
import { newOrderNo } from '../lua/raw-scripts.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildReserveRequest, buildSale, uniqueSaleId } from '../support/factories.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores({ MYSQL_STORES_PER_SECOND: 1 });
});
beforeEach(() => stores.redis.flushall());

/** An outbox that is on the list of sales, with so many orders. */
async function newOutbox(orderCount: number) {
  const saleId = uniqueSaleId();
  await registerSales(stores.redis, [{ saleId, shard: 0 }]);
  const add = () => putIntoOutbox(stores.redis, newOrderNo(saleId));
  for (let i = 0; i < orderCount; i += 1) await add();
  return { key: saleKeys({ saleId, shard: 0 }).outbox, add };
}

/** For a clock that can be set ahead, by so much that a count is old. */
function openClock(): { setAhead: () => void } {
  let passedMs = 0;
  const now = performance.now.bind(performance);
  const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + passedMs);
  onTestFinished(() => clock.mockRestore());
  return { setAhead: () => void (passedMs += 10_000) };
}

/** Counts with each call anew, as if a while had passed since the last. */
function countAnew() {
  const counts = createOutboxCounts(stores.redis);
  const { setAhead } = openClock();
  return (outbox: string) => {
    setAhead();
    return counts.countWithout(outbox);
  };
}

test('while no relay runs, what waits of one sale counts for the others, and leaves them their part', async () => {
  // One order a second and a window of nine seconds: three may wait.
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null }];
  const busy = await stores.openSale(buildSale({ skus }));
  const { saleId } = await stores.openSale(buildSale({ skus, paymentWindowMs: 9_000 }));
  for (let i = 0; i < 3; i += 1) await acceptOrder(stores, busy.saleId);
  const { setAhead } = openClock();

  const refusal = await waitFor('the orders to count', async () => {
    setAhead();
    const outcome = await stores.reservations.reserve(buildReserveRequest({ saleId }));
    return outcome.kind === 'backlog-full' && outcome;
  });

  const own = await stores.redis.xlen(saleKeys({ saleId, shard: 0 }).outbox);
  expect(refusal).toEqual({ kind: 'backlog-full', waiting: 3 + own, bound: 3 });
  // Half of three.
  expect(own).toBeGreaterThanOrEqual(2);
});

test('an outbox counts for all but its own sale, until its orders are stored', async () => {
  const [one, other] = [await newOutbox(2), await newOutbox(3)];
  const count = countAnew();
  await waitFor('a look', () => count('').orders === 5);
  expect([count(one.key), count(other.key)]).toEqual([
    { orders: 3, outboxes: 1 },
    { orders: 2, outboxes: 1 },
  ]);
  await stores.redis.xtrim(one.key, 'MAXLEN', 0);
  await waitFor('a later look', () => count('').orders === 3);
  expect([count(one.key), count(other.key)]).toEqual([
    { orders: 3, outboxes: 1 },
    { orders: 0, outboxes: 0 },
  ]);
});

test('what cannot be read any more counts as before', async () => {
  const [unlisted, damaged, other] = [await newOutbox(20), await newOutbox(10), await newOutbox(1)];
  const count = countAnew();
  await waitFor('a look', () => count('').orders === 31);

  await stores.redis.set(damaged.key, 'damaged');
  await stores.redis.set(SALES_KEY, 'damaged');
  await other.add();
  await waitFor('a later look', () => count('').orders === 32);

  await unlisted.add();
  await waitFor('a look at what the list has lost', () => count('').orders === 33);
});

test('a count that is new is not made again for each order', async () => {
  const { key } = await newOutbox(1);
  const counts = createOutboxCounts(stores.redis);
  const commands = vi.spyOn(stores.redis, 'smembers');
  onTestFinished(() => commands.mockRestore());
  for (let i = 0; i < 100; i += 1) counts.countWithout(key);
  expect(commands).toHaveBeenCalledOnce();
});
