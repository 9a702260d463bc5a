/** The relay's starter: orders due in MySQL are claimed, and started or signalled. */

import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { BURST_ORDERS, createBurst } from '../../src/workers/outbox-follower.ts';
import { createEngineGate, createStarter, type StarterDeps } from '../../src/workers/starter.ts';
import { ageClaim } from '../support/ageing.ts';
import { countStoredAhead } from '../support/count-stored-ahead.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

/** While money keeps others away, one is started in this time. */
const FLOOR_MS = 250;
const COLD_MS = 5_000;

let shared: TestStores;
let saleId: string;
beforeAll(async () => {
  shared = await openTestStores();
});
// What is due is due in all sales, and all share the slots: each test begins with nothing.
beforeEach(async () => {
  await shared.pool.query('DELETE FROM orders');
  await shared.redis.flushall();
  ({ saleId } = await shared.openSale(buildSale()));
});

interface Starter {
  slots?: number;
  failing?: Set<string>;
  /** Of a process that has just begun; else it has worked before. */
  coldMs?: number;
}

function openStarter({ slots = 50, failing = new Set(), coldMs = 0 }: Starter = {}) {
  const stores = { ...shared, budget: createEngineBudget(shared.redis, slots, silent) };
  const calls: string[] = [];
  const windows: (number | undefined)[] = [];
  const states: (OrderState | undefined)[] = [];
  const record = (what: string, { orderNo }: Order, windowEndsAtMs: number | undefined): void => {
    if (failing.has(orderNo)) throw new Error('14 UNAVAILABLE');
    calls.push(`${what} ${orderNo}`);
    windows.push(windowEndsAtMs);
  };
  const engine: StarterDeps['engine'] = {
    start: async (order, _, windowEndsAtMs) => record('start', order, windowEndsAtMs),
    async signalPaymentReceived(order, windowEndsAtMs, state) {
      record('money', order, windowEndsAtMs);
      states.push(state);
    },
    signalCancelRequested: async (order, windowEndsAtMs) => record('cancel', order, windowEndsAtMs),
    signalEnded: async (orderNo) => void calls.push(`ended ${orderNo}`),
  };
  const gate = createEngineGate(stores.budget, silent, coldMs);
  const burst = createBurst();
  return {
    stores,
    calls,
    windows,
    states,
    burst,
    pass: createStarter({ ...stores, engine, gate, burst }),
    passWith: (parts: Partial<StarterDeps>) => createStarter({ ...stores, engine, gate, burst, ...parts }),
    async storeAhead(overrides: Partial<Order> = {}): Promise<string> {
      const order = buildOrder({ saleId, ...overrides });
      await stores.orders.storeOrder(order, 'due');
      return order.orderNo;
    },
    receive: (orderNo: string) =>
      stores.payments.record('sandbox', {
        providerPaymentId: `pay-${orderNo}`,
        orderNo,
        amount: 4_900,
        currency: 'EUR',
        signedOrder: null,
      }),
    /** As if the time in which the API should signal it itself were over. */
    makeDueNow: () => ageClaim(stores.pool, 'start', 'all'),
  };
}

test('each due order is started or signalled once, as its state demands', async () => {
  const { stores, calls, pass, storeAhead, receive, makeDueNow } = openStarter();
  const [plain, paid, cancelled] = [await storeAhead(), await storeAhead(), await storeAhead()];
  await receive(paid);
  await stores.orders.requestCancel(cancelled);
  await makeDueNow();

  await pass();
  await pass();

  expect(calls.toSorted()).toEqual([`cancel ${cancelled}`, `money ${paid}`, `start ${plain}`]);
  expect(await countStoredAhead(stores.pool)).toEqual(new Map());
});

test('with room for one, the order with money goes first, then the one that is to be cancelled, then the oldest', async () => {
  const { stores, calls, pass, storeAhead, receive } = openStarter({ slots: 1 });
  const [newer, oldest] = [await storeAhead(), await storeAhead()];
  const [unwanted, paid] = [await storeAhead(), await storeAhead()];
  await receive(paid);
  await stores.orders.requestCancel(unwanted);
  for (const [i, orderNo] of [unwanted, paid, newer, oldest].entries())
    await ageClaim(stores.pool, 'start', orderNo, 1 + i);

  for (const orderNo of [paid, unwanted, oldest, newer]) {
    await pass();
    await stores.budget.release([orderNo]);
  }

  expect(calls).toEqual([`money ${paid}`, `cancel ${unwanted}`, `start ${oldest}`, `start ${newer}`]);
});

test('in a burst orders wait to be started, and those with money or a wish to cancel do not', async () => {
  const { stores, calls, pass, storeAhead, receive, burst } = openStarter();
  const [waiting, paid, unwanted] = [await storeAhead(), await storeAhead(), await storeAhead()];
  await receive(paid);
  await stores.orders.requestCancel(unwanted);
  await ageClaim(stores.pool, 'start', 'all');
  burst.note(BURST_ORDERS);

  await pass();

  expect(calls).toEqual([`money ${paid}`, `cancel ${unwanted}`]);
  expect((await stores.orderClaims.take(10)).map(({ order }) => order.orderNo)).toEqual([waiting]);
});

test('while money is at work, others wait to be started, but for one now and then', async () => {
  const { stores, calls, pass, storeAhead } = openStarter();
  onTestFinished(() => void vi.useRealTimers());
  vi.useFakeTimers({ toFake: ['Date'] });
  await stores.budget.acquire(['paid-1', 'paid-2', 'paid-3', 'paid-4']);
  const waiting = [await storeAhead(), await storeAhead(), await storeAhead()];

  await pass();
  await pass();
  expect(calls).toEqual([]);

  vi.setSystemTime(Date.now() + FLOOR_MS);
  await pass();
  await pass();
  expect(calls).toHaveLength(1);

  await stores.budget.release(['paid-1', 'paid-2', 'paid-3', 'paid-4']);
  await pass();
  expect(calls.toSorted()).toEqual(waiting.map((orderNo) => `start ${orderNo}`).toSorted());
});

test('orders of what is called off take no more of the engine than starts, and both go on', async () => {
  const { stores, calls, pass, storeAhead } = openStarter();
  const calledOff = await Promise.all(Array.from({ length: 7 }, () => storeAhead()));
  const sql = `UPDATE orders SET closing_reason = 'called_off' WHERE order_no IN (?)`;
  await stores.pool.query(sql, [calledOff]);
  const waiting = await Promise.all(Array.from({ length: 3 }, () => storeAhead()));

  await pass();
  // As many as starts may be at work at once; none ends in this test.
  expect(calls).toHaveLength(4);
  for (let passes = 0; passes < 5; passes += 1) {
    await stores.budget.release([...calledOff, ...waiting]);
    await pass();
  }

  const all = [...calledOff.map((one) => `cancel ${one}`), ...waiting.map((one) => `start ${one}`)];
  expect(calls.toSorted()).toEqual(all.toSorted());
  expect(calls.slice(0, 4).filter((call) => call.startsWith('start'))).toHaveLength(2);
});

test('a worker that has just begun signals the money that waits before it starts others, one at a time', async () => {
  const { stores, calls, pass, storeAhead, receive, makeDueNow } = openStarter({ slots: 2, coldMs: COLD_MS });
  const waiting = [await storeAhead(), await storeAhead()];
  const paid = [await storeAhead(), await storeAhead(), await storeAhead(), await storeAhead()];
  for (const orderNo of paid) await receive(orderNo);
  await makeDueNow();

  for (let passes = 0; passes < 4; passes += 1) {
    await pass();
    // Its workflow has acted.
    await stores.budget.release([...paid, ...waiting]);
  }

  const money = paid.map((orderNo) => `money ${orderNo}`);
  expect(calls.slice(0, paid.length).toSorted()).toEqual(money.toSorted());
  expect(calls.slice(paid.length).toSorted()).toEqual(
    waiting.map((orderNo) => `start ${orderNo}`).toSorted(),
  );
});

test('a cold worker starts one order at a time', async () => {
  const { calls, pass, storeAhead } = openStarter({ coldMs: COLD_MS });
  await storeAhead();
  await storeAhead();

  await pass();

  expect(calls).toHaveLength(1);
});

test('the state with the payment goes along, so that a workflow that begins by it takes no step before', async () => {
  const { states, pass, storeAhead, receive, makeDueNow } = openStarter();
  await receive(await storeAhead());
  await makeDueNow();

  await pass();

  expect(states).toEqual([{ status: 'awaiting_payment', version: 2, payment: 'received', reason: null }]);
});

test('without room nothing is claimed', async () => {
  const { stores, calls, pass, storeAhead } = openStarter({ slots: 1 });
  await storeAhead();
  await stores.budget.acquire(['another-order']);

  expect(await pass()).toBeGreaterThan(0);

  expect(calls).toEqual([]);
  expect(await stores.orderClaims.take(10)).toHaveLength(1);
});

test('a claim that Temporal does not take is released at once for the next try', async () => {
  const failing = new Set<string>();
  const { stores, calls, pass, storeAhead } = openStarter({ failing });
  const [refused, accepted] = [await storeAhead(), await storeAhead()];
  failing.add(refused);

  await pass();

  expect(calls).toEqual([`start ${accepted}`]);
  expect((await stores.orderClaims.take(10)).map(({ order }) => order.orderNo)).toEqual([refused]);
  expect(await stores.budget.room()).toBe(49);
});

test('an order that always fails is tried thrice at its place and then behind the others, which all go on', async () => {
  const failing = new Set<string>();
  const { stores, calls, passWith, storeAhead } = openStarter({ slots: 1, failing });
  onTestFinished(() => void vi.useRealTimers());
  vi.useFakeTimers({ toFake: ['Date'] });
  const [poison, ...others] = [await storeAhead(), await storeAhead(), await storeAhead()];
  const tries: string[] = [];
  const engine = {
    start: async ({ orderNo }: Order) => {
      tries.push(orderNo);
      if (orderNo === poison) throw new Error('3 INVALID_ARGUMENT');
    },
    signalPaymentReceived: () => Promise.reject(new Error('no order has money')),
    signalCancelRequested: () => Promise.reject(new Error('no order is to be cancelled')),
    signalEnded: () => Promise.reject(new Error('no order has ended')),
  };
  const pass = passWith({ engine });

  for (let passes = 0; passes < 7; passes += 1) {
    await pass();
    // The workflow has acted, and the pause after a failure is over.
    await stores.budget.release(others);
    vi.setSystemTime(Date.now() + 10_000);
  }

  expect(tries).toEqual([poison, poison, poison, ...others, poison, poison]);
  expect(calls).toEqual([]);
  expect(await countStoredAhead(stores.pool)).toEqual(new Map([[expect.anything(), 1]]));
});

test('an order with money that always fails keeps no wish to cancel and no start away', async () => {
  const failing = new Set<string>();
  const { stores, calls, pass, storeAhead, receive, makeDueNow } = openStarter({ slots: 1, failing });
  onTestFinished(() => void vi.useRealTimers());
  vi.useFakeTimers({ toFake: ['Date'] });
  const [poison, cancelled, plain] = [await storeAhead(), await storeAhead(), await storeAhead()];
  failing.add(poison);
  await receive(poison);
  await stores.orders.requestCancel(cancelled);
  await makeDueNow();

  for (let passes = 0; passes < 8; passes += 1) {
    await pass();
    await stores.budget.release([cancelled, plain]);
    vi.setSystemTime(Date.now() + 10_000);
  }

  expect(calls).toEqual([`cancel ${cancelled}`, `start ${plain}`]);
});

test('an order whose workflow begins again gets what is left of its window', async () => {
  const { stores, windows, pass, storeAhead, receive, makeDueNow } = openStarter();
  const [plain, paid, unwanted] = [await storeAhead(), await storeAhead(), await storeAhead()];
  await pass();
  expect(windows).toEqual([undefined, undefined, undefined]);
  await receive(paid);
  await stores.orders.requestCancel(unwanted);
  await stores.pool.query(
    `UPDATE orders SET reserved_at = '2025-12-31 23:59', workflow_started_at = '2026-01-01', engine_due_at = NOW(3)`,
  );
  await makeDueNow();

  await pass();

  const { order } = (await stores.orders.read(plain)) ?? {};
  const endsAtMs = Date.parse('2026-01-01T00:00:00Z') + (order?.paymentWindowMs ?? 0);
  expect(windows.slice(3)).toEqual([endsAtMs, endsAtMs, endsAtMs]);
});

test('when the budget cannot be asked, the claims are released at once', async () => {
  const { stores, storeAhead } = openStarter();
  const orderNo = await storeAhead();
  const budget = { ...stores.budget, acquire: () => Promise.reject(new Error('no Redis')) };
  const gate = createEngineGate(budget, silent);
  const start = () => Promise.resolve();
  const engine = {
    start,
    signalPaymentReceived: start,
    signalCancelRequested: start,
    signalEnded: start,
  };

  await expect(createStarter({ ...stores, engine, gate, burst: createBurst() })()).rejects.toThrow(
    'no Redis',
  );

  expect((await stores.orderClaims.take(10)).map(({ order }) => order.orderNo)).toEqual([orderNo]);
});

/** Accepted so long ago that a third of its window of a minute is over. */
const late = () => ({ reservedAtMs: Date.now() - 21_000, paymentWindowMs: 60_000 });

test('what is not begun within a third of its window is begun by money or a wish to cancel alone', async () => {
  const { stores, calls, pass, storeAhead, receive, makeDueNow } = openStarter();
  await storeAhead(late());
  const [paid, unwanted] = [await storeAhead(late()), await storeAhead(late())];
  const inTime = await storeAhead({ ...late(), reservedAtMs: Date.now() });
  await receive(paid);
  await stores.orders.requestCancel(unwanted);
  await makeDueNow();

  await pass();
  await pass();

  expect(calls).toEqual([`money ${paid}`, `cancel ${unwanted}`, `start ${inTime}`]);
  // It waits for its deadline, and is no backlog of Temporal any more.
  expect(await countStoredAhead(stores.pool)).toEqual(new Map());
});

test('what is left to end without a workflow does not stand before what can still be begun', async () => {
  const { calls, pass, storeAhead } = openStarter({ slots: 4 });
  for (let i = 0; i < 9; i += 1) await storeAhead(late());
  const inTime = await storeAhead();

  await pass();

  expect(calls).toEqual([`start ${inTime}`]);
});

test("without an answer of Redis' clock money is signalled, and nothing is started", async () => {
  const { stores, calls, passWith, storeAhead, receive, makeDueNow } = openStarter();
  const [plain, paid] = [await storeAhead(), await storeAhead()];
  await receive(paid);
  await makeDueNow();
  const saleStock = { ...stores.saleStock, readTimeMs: () => Promise.reject(new Error('no answer')) };

  await passWith({ saleStock })();
  expect(calls).toEqual([`money ${paid}`]);

  await passWith({ saleStock: stores.saleStock })();
  expect(calls).toEqual([`money ${paid}`, `start ${plain}`]);
});

test('an order whose workflow was lost begins again however late it is', async () => {
  const { stores, calls, pass, storeAhead } = openStarter();
  const orderNo = await storeAhead(late());
  await stores.pool.query('UPDATE orders SET workflow_started_at = NOW(3)');

  await pass();

  expect(calls).toEqual([`start ${orderNo}`]);
});

test('a workflow that may run for an order that ended without it is told, and its slot is free again', async () => {
  const { stores, calls, pass, storeAhead } = openStarter();
  const orderNo = await storeAhead();
  const failed = await stores.orderClaims.take(10);
  await stores.orderClaims.release(failed);
  await stores.endings.endPage(Date.now() + 60 * 60_000, 10);

  await pass();
  await pass();

  expect(calls).toEqual([`ended ${orderNo}`]);
  expect(await stores.budget.room()).toBe(50);
});
