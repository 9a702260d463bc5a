/** The relay's starter: orders due in MySQL are claimed, and started or signalled. */

import { beforeAll, beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import type { WorkflowPresence } from '../../src/orders/store.sql.ts';
import { createEngineBudget } from '../../src/redis/budget.ts';
import { BURST_ORDERS, createBurst } from '../../src/workers/outbox-follower.ts';
import { createEngineGate, createStarter, type StarterDeps } from '../../src/workers/starter.ts';
import { ageClaim } from '../support/ageing.ts';
import { countStoredAhead } from '../support/count-stored-ahead.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

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

/** A test replaces what it calls. */
const UNUSED_ENGINE: StarterDeps['engine'] = {
  start: () => Promise.reject(new Error('no order is to be started')),
  signalCancelRequested: () => Promise.reject(new Error('no order is to be cancelled')),
  signalEnded: () => Promise.reject(new Error('no order has ended')),
};

interface Starter {
  slots?: number;
  failing?: Set<string>;
}

function openStarter({ slots = 50, failing = new Set() }: Starter = {}) {
  const stores = { ...shared, budget: createEngineBudget(shared.redis, slots, silent) };
  const calls: string[] = [];
  const windows: (number | undefined)[] = [];
  const record = (what: string, orderNo: string): void => {
    if (failing.has(orderNo)) throw new Error('14 UNAVAILABLE');
    calls.push(`${what} ${orderNo}`);
  };
  const recordWindow = (what: string, { orderNo }: Order, windowEndsAtMs: number | undefined): void => {
    record(what, orderNo);
    windows.push(windowEndsAtMs);
  };
  const engine: StarterDeps['engine'] = {
    start: async (order, _, windowEndsAtMs) => recordWindow('start', order, windowEndsAtMs),
    signalCancelRequested: async (order, windowEndsAtMs) => recordWindow('cancel', order, windowEndsAtMs),
    async signalEnded(orderNo, { status }) {
      record(status, orderNo);
      return true;
    },
  };
  const gate = createEngineGate(stores.budget, silent);
  const burst = createBurst();
  async function store(overrides: Partial<Order>, presence: WorkflowPresence): Promise<string> {
    const order = buildOrder({ saleId, ...overrides });
    await stores.orders.storeOrder(order, presence);
    return order.orderNo;
  }
  return {
    stores,
    calls,
    windows,
    burst,
    pass: createStarter({ ...stores, engine, gate, burst }),
    passWith: (parts: Partial<StarterDeps>) => createStarter({ ...stores, engine, gate, burst, ...parts }),
    storeAhead: (overrides: Partial<Order> = {}) => store(overrides, 'due'),
    /** Its workflow runs. */
    storeBegun: (overrides: Partial<Order> = {}) => store(overrides, 'started'),
    /** The payment pays for the order. */
    receive: (orderNo: string) =>
      stores.payments.record('sandbox', {
        providerPaymentId: `pay-${orderNo}`,
        orderNo,
        amount: 4_900,
        currency: 'EUR',
        signedOrder: null,
      }),
    /** As if the time were over in which the process that changed an order signals its workflow itself. */
    makeDueNow: () => ageClaim(stores.pool, 'start', 'all'),
  };
}

test('each due order is started or signalled once, as its state demands', async () => {
  const { stores, calls, pass, storeAhead, storeBegun, receive, makeDueNow } = openStarter();
  const [plain, paid, cancelled] = [await storeAhead(), await storeBegun(), await storeAhead()];
  await receive(paid);
  await stores.orders.requestCancel(cancelled);
  await makeDueNow();

  await pass();
  await pass();

  expect(calls.toSorted()).toEqual([`cancel ${cancelled}`, `paid ${paid}`, `start ${plain}`]);
  expect(await countStoredAhead(stores.pool)).toEqual(new Map());
});

test('with room for one, the workflow of a paid order is told first, then the cancel request, then the oldest starts', async () => {
  const { stores, calls, pass, storeAhead, storeBegun, receive } = openStarter({ slots: 1 });
  const [newer, oldest] = [await storeAhead(), await storeAhead()];
  const [unwanted, paid] = [await storeAhead(), await storeBegun()];
  await receive(paid);
  await stores.orders.requestCancel(unwanted);
  for (const [i, orderNo] of [unwanted, paid, newer, oldest].entries())
    await ageClaim(stores.pool, 'start', orderNo, 1 + i);

  for (const orderNo of [paid, unwanted, oldest, newer]) {
    await pass();
    await stores.budget.release([orderNo]);
  }

  expect(calls).toEqual([`paid ${paid}`, `cancel ${unwanted}`, `start ${oldest}`, `start ${newer}`]);
});

test('in a burst orders wait to be started, and those that were paid or are to be cancelled do not', async () => {
  const { stores, calls, pass, storeAhead, storeBegun, receive, burst } = openStarter();
  const [waiting, paid, unwanted] = [await storeAhead(), await storeBegun(), await storeAhead()];
  await receive(paid);
  await stores.orders.requestCancel(unwanted);
  await ageClaim(stores.pool, 'start', 'all');
  burst.note(saleId, BURST_ORDERS);

  await pass();

  expect(calls).toEqual([`paid ${paid}`, `cancel ${unwanted}`]);
  expect((await stores.orderClaims.take(10)).map(({ order }) => order.orderNo)).toEqual([waiting]);
});

test('an order that was paid before its workflow began is neither started nor signalled', async () => {
  const { stores, calls, pass, storeAhead, receive, makeDueNow } = openStarter();
  await receive(await storeAhead());
  await makeDueNow();

  await pass();

  expect(calls).toEqual([]);
  expect(await countStoredAhead(stores.pool)).toEqual(new Map());
});

test('the workflow of an order that is paid while it is being started is told so at once after the start', async () => {
  const { stores, calls, pass, passWith, storeAhead, receive } = openStarter();
  const orderNo = await storeAhead();
  const start = async () => {
    await receive(orderNo);
    calls.push(`start ${orderNo}`);
  };
  const engine = { ...UNUSED_ENGINE, start };

  await passWith({ engine })();
  await pass();
  await pass();

  expect(calls).toEqual([`start ${orderNo}`, `paid ${orderNo}`]);
  expect(await countStoredAhead(stores.pool)).toEqual(new Map());
});

test('an order that is paid while its start fails is told as paid once the start could not be answered any more', async () => {
  const { stores, calls, pass, passWith, storeAhead, receive, makeDueNow } = openStarter();
  onTestFinished(() => void vi.useRealTimers());
  vi.useFakeTimers({ toFake: ['Date'] });
  const orderNo = await storeAhead();
  const start = async () => {
    await receive(orderNo);
    throw new Error('4 DEADLINE_EXCEEDED');
  };

  await passWith({ engine: { ...UNUSED_ENGINE, start } })();
  // The pause after a failure is over.
  vi.setSystemTime(Date.now() + 10_000);
  await pass();
  expect(calls).toEqual([]);

  await makeDueNow();
  await pass();
  await pass();

  expect(calls).toEqual([`paid ${orderNo}`]);
  expect(await countStoredAhead(stores.pool)).toEqual(new Map());
});

test('starts take a quarter of the slots at most, and a cancel request gets one of the others', async () => {
  const { stores, calls, pass, storeAhead, makeDueNow } = openStarter({ slots: 8 });
  const orderNos = [await storeAhead(), await storeAhead(), await storeAhead(), await storeAhead()];
  await pass();
  await pass();
  expect(calls).toHaveLength(2);
  const waiting = orderNos.find((orderNo) => !calls.includes(`start ${orderNo}`)) ?? '';
  await stores.orders.requestCancel(waiting);
  await makeDueNow();

  await pass();

  expect(calls.slice(2)).toEqual([`cancel ${waiting}`]);
});

test('orders of what is called off take no more of the engine than starts, and both go on', async () => {
  const { stores, calls, pass, storeAhead } = openStarter({ slots: 16 });
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
    ...UNUSED_ENGINE,
    start: async ({ orderNo }: Order) => {
      tries.push(orderNo);
      if (orderNo === poison) throw new Error('3 INVALID_ARGUMENT');
    },
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

test('a paid order whose signal always fails keeps no cancel request and no start away', async () => {
  const failing = new Set<string>();
  const { stores, calls, pass, storeAhead, storeBegun, receive, makeDueNow } = openStarter({
    slots: 1,
    failing,
  });
  onTestFinished(() => void vi.useRealTimers());
  vi.useFakeTimers({ toFake: ['Date'] });
  const [poison, cancelled, plain] = [await storeBegun(), await storeAhead(), await storeAhead()];
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
  const { stores, windows, pass, storeAhead, makeDueNow } = openStarter();
  const [plain, unwanted] = [await storeAhead(), await storeAhead()];
  await pass();
  expect(windows).toEqual([undefined, undefined]);
  await stores.orders.requestCancel(unwanted);
  await stores.pool.query(
    `UPDATE orders SET reserved_at = '2025-12-31 23:59', workflow_started_at = '2026-01-01', engine_due_at = NOW(3)`,
  );
  await makeDueNow();

  await pass();

  const { order } = (await stores.orders.read(plain)) ?? {};
  const endsAtMs = Date.parse('2026-01-01T00:00:00Z') + (order?.paymentWindowMs ?? 0);
  expect(windows.slice(2)).toEqual([endsAtMs, endsAtMs]);
});

test('when the budget cannot be asked, the claims are released at once', async () => {
  const { stores, storeAhead } = openStarter();
  const orderNo = await storeAhead();
  const budget = { ...stores.budget, acquire: () => Promise.reject(new Error('no Redis')) };
  const gate = createEngineGate(budget, silent);

  await expect(
    createStarter({ ...stores, engine: UNUSED_ENGINE, gate, burst: createBurst() })(),
  ).rejects.toThrow('no Redis');

  expect((await stores.orderClaims.take(10)).map(({ order }) => order.orderNo)).toEqual([orderNo]);
});

/** Accepted so long ago that a third of its window of a minute is over. */
const late = () => ({ reservedAtMs: Date.now() - 21_000, paymentWindowMs: 60_000 });

test('what is not begun within a third of its window is begun by a cancel request alone', async () => {
  const { stores, calls, pass, storeAhead, makeDueNow } = openStarter();
  await storeAhead(late());
  const unwanted = await storeAhead(late());
  const inTime = await storeAhead({ ...late(), reservedAtMs: Date.now() });
  await stores.orders.requestCancel(unwanted);
  await makeDueNow();

  await pass();
  await pass();

  expect(calls).toEqual([`cancel ${unwanted}`, `start ${inTime}`]);
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

test("without an answer of Redis' clock the workflow of a paid order is told, and nothing is started", async () => {
  const { stores, calls, passWith, storeAhead, storeBegun, receive, makeDueNow } = openStarter();
  const [plain, paid] = [await storeAhead(), await storeBegun()];
  await receive(paid);
  await makeDueNow();
  const saleStock = { ...stores.saleStock, readTimeMs: () => Promise.reject(new Error('no answer')) };

  await passWith({ saleStock })();
  expect(calls).toEqual([`paid ${paid}`]);

  await passWith({ saleStock: stores.saleStock })();
  expect(calls).toEqual([`paid ${paid}`, `start ${plain}`]);
});

test('an order whose workflow was lost begins again however late it is', async () => {
  const { stores, calls, pass, storeAhead } = openStarter();
  const orderNo = await storeAhead(late());
  await stores.pool.query('UPDATE orders SET workflow_started_at = NOW(3)');

  await pass();

  expect(calls).toEqual([`start ${orderNo}`]);
});

test.each(['cancelled', 'paid'] as const)(
  'a workflow that may run for an order that was %s without it is told, and its slot is free again',
  async (end) => {
    const { stores, calls, pass, storeAhead, receive, makeDueNow } = openStarter();
    const orderNo = await storeAhead();
    const failed = await stores.orderClaims.take(10);
    await stores.orderClaims.release(failed);
    if (end === 'paid') await receive(orderNo);
    else await stores.endings.endPage(Date.now() + 60 * 60_000, 10);
    await makeDueNow();

    await pass();
    await pass();

    expect(calls).toEqual([`${end} ${orderNo}`]);
    expect(await stores.budget.room()).toBe(50);
  },
);
