/** The walk over open orders: a workflow that runs no more begins again, and one that is stuck is shown. */

import { beforeEach, expect, test } from 'vitest';
import type { Order } from '../../src/orders/content.ts';
import { mendOpenOrders } from '../../src/reconcile/lost-work.ts';
import { ageDeadline } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pay } from '../support/payment-notices.ts';
import { select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

const DAY_S = 24 * 60 * 60;

/** More than two pages. */
const MANY = 1_001;

let stores: TestStores;
let saleId: string;
beforeEach(async () => {
  stores = await openTestStores();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 5_000, limitPerUser: null }];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
});

/** Orders whose workflows have begun, by their deadlines. */
async function storeStarted(count: number): Promise<Order[]> {
  const reservedAtMs = Date.now() - count;
  const orders = Array.from({ length: count }, (_, i) =>
    buildOrder({ saleId, reservedAtMs: reservedAtMs + i }),
  );
  await stores.orders.storeOrders(orders, 'started');
  return orders;
}

/**
 * @param gone the orders whose workflow has ended, or that Temporal does not know
 * @param listed those that Temporal's list has as running
 */
function openStep(
  gone: readonly (Order | undefined)[] = [],
  { pagesMax, listed = [] }: { pagesMax?: number; listed?: readonly (Order | undefined)[] } = {},
) {
  const idle = new Set(gone.map((order) => order?.orderNo));
  const running = new Set(listed.map((order) => order?.orderNo));
  const asked: string[] = [];
  const engine = {
    listRunning: async (orderNos: readonly string[]) =>
      new Set(orderNos.filter((orderNo) => running.has(orderNo))),
    isRunning: async (orderNo: string) => {
      asked.push(orderNo);
      return !idle.has(orderNo);
    },
  };
  const deps = { ...stores, engine, log: silent };
  return { asked, run: () => mendOpenOrders(deps, new AbortController().signal, pagesMax) };
}

/** Temporal's list has none. */
const listRunning = async () => new Set<string>();

async function claimDue(): Promise<string[]> {
  return (await stores.orderClaims.take(10)).map(({ order }) => order.orderNo);
}

const parkedOf = ({ orderNo }: Pick<Order, 'orderNo'>) =>
  select(stores.pool, 'SELECT cause FROM parked WHERE reference = ? AND resolved_at IS NULL', [orderNo]);

test('an order whose workflow runs no more is due again, once, and the log of actions has it', async () => {
  const [first, lost, last] = await storeStarted(3);
  const { run } = openStep([lost]);

  expect(await run()).toEqual({ looked: 3, repaired: 1, parked: 0 });

  expect(await run()).toEqual({ looked: 3, repaired: 0, parked: 0 });
  expect(await claimDue()).toEqual([lost?.orderNo]);
  for (const order of [first, lost, last])
    expect(await parkedOf({ orderNo: order?.orderNo ?? '' })).toEqual([]);
  expect(await select(stores.pool, 'SELECT actor, action, subject FROM audit_log')).toEqual([
    { actor: 'holdfast', action: 'workflow_lost', subject: lost?.orderNo },
  ]);
});

test('the order behind a thousand others is found by the next run, whatever becomes of those before it', async () => {
  const orders = await storeStarted(MANY);
  const lost = orders.at(-1);
  // All are long past their deadlines, as after a day on which no workflow went on.
  await stores.pool.query('UPDATE orders SET deadline = deadline - INTERVAL 1 DAY');
  const { run } = openStep([lost], { pagesMax: 2 });

  expect(await run()).toMatchObject({ looked: MANY - 1, repaired: 0 });
  expect(await run()).toMatchObject({ looked: 1, repaired: 1 });

  expect(await claimDue()).toEqual([lost?.orderNo]);
});

test('one run walks many pages, and asks only about those that the list of running workflows lacks', async () => {
  const orders = await storeStarted(2 * MANY);
  const [lost, unlisted] = [orders.at(-1), orders[0]];
  const listed = orders.filter((order) => order !== lost && order !== unlisted);
  const { run, asked } = openStep([lost], { listed });

  expect(await run()).toMatchObject({ looked: 2 * MANY, repaired: 1, parked: 0 });

  expect(asked).toEqual([unlisted?.orderNo, lost?.orderNo]);
  expect(await claimDue()).toEqual([lost?.orderNo]);
});

test('an order long past its deadline is asked about, whatever the list of running workflows has', async () => {
  const [lost] = await storeStarted(1);
  await ageDeadline(stores.pool, 'all', DAY_S);

  expect(await openStep([lost], { listed: [lost] }).run()).toMatchObject({ repaired: 1, parked: 0 });
});

test('what is due, claimed or not begun yet is left alone, and Temporal is not asked about it', async () => {
  const [due, claimed] = await storeStarted(2);
  const backlog = buildOrder({ saleId });
  await stores.orders.storeOrder(backlog, 'due');
  const sql = 'UPDATE orders SET engine_due_at = NOW(3) + INTERVAL ? SECOND WHERE order_no = ?';
  await stores.pool.query(sql, [-1, due?.orderNo]);
  await stores.pool.query(sql, [600, claimed?.orderNo]);
  const { run, asked } = openStep([due, claimed, backlog]);

  expect(await run()).toEqual({ looked: 3, repaired: 0, parked: 0 });

  expect(asked).toEqual([]);
});

test('an order that ends while it is looked at is not due again', async () => {
  const [order] = await storeStarted(1);
  const deps = {
    ...stores,
    engine: {
      listRunning,
      async isRunning(orderNo: string) {
        await stores.orders.cancel(orderNo, 'payment_timeout', { force: true });
        return false;
      },
    },
    log: silent,
  };
  const step = (signal: AbortSignal) => mendOpenOrders(deps, signal);

  expect(await step(new AbortController().signal)).toEqual({ looked: 1, repaired: 0, parked: 0 });

  expect(order && (await stores.orders.read(order.orderNo))?.state.status).toBe('cancelled');
  expect(await claimDue()).toEqual([]);
});

test('an order long past its deadline whose workflow runs is shown to an operator until it ends', async () => {
  const [stuck, young] = await storeStarted(2);
  await ageDeadline(stores.pool, stuck?.orderNo ?? '', DAY_S);
  const { run } = openStep();

  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 1 });

  expect(stuck && (await parkedOf(stuck))).toEqual([{ cause: 'workflow_stuck' }]);
  expect(young && (await parkedOf(young))).toEqual([]);
  await stores.orders.cancel(stuck?.orderNo ?? '', 'payment_timeout', { force: true });
  expect(stuck && (await parkedOf(stuck))).toEqual([]);
});

/** Long past its deadline. */
async function storeOverdue(): Promise<string> {
  const [order] = await storeStarted(1);
  const orderNo = order?.orderNo ?? '';
  await ageDeadline(stores.pool, orderNo, DAY_S);
  return orderNo;
}

test.each([
  ['ends', (orderNo: string) => stores.orders.cancel(orderNo, 'payment_timeout', { force: true })],
  ['has a payment that is to be signalled', (orderNo: string) => payFor(orderNo)],
])('an order that %s while the step is frozen is not parked by it', async (_, change) => {
  const orderNo = await storeOverdue();
  const engine = { listRunning, isRunning: async () => (await change(orderNo), true) };
  const step = (signal: AbortSignal) => mendOpenOrders({ ...stores, engine, log: silent }, signal);

  expect(await step(new AbortController().signal)).toEqual({ looked: 1, repaired: 0, parked: 0 });

  expect(await parkedOf({ orderNo })).toEqual([]);
});

async function payFor(orderNo: string): Promise<void> {
  const stored = await stores.orders.read(orderNo);
  if (stored) await pay(stores, stored.order);
}

test('a run unparks what was parked as stuck and has ended since, and nothing else', async () => {
  const [ended, open, lost] = [await storeOverdue(), await storeOverdue(), await storeOverdue()];
  for (const orderNo of [ended, lost])
    await stores.orders.cancel(orderNo, 'payment_timeout', { force: true });
  // As steps did that did not look whether the order had ended.
  for (const orderNo of [ended, open]) await stores.repairs.parkOrder(orderNo, 'workflow_stuck', 'it runs');
  await stores.orders.parkLostHold(lost);

  expect(await openStep().run()).toMatchObject({ repaired: 0, parked: 1 });

  expect(await parkedOf({ orderNo: ended })).toEqual([]);
  expect(await parkedOf({ orderNo: open })).toEqual([{ cause: 'workflow_stuck' }]);
  expect(await parkedOf({ orderNo: lost })).toEqual([{ cause: 'hold_lost' }]);
});

test('while Temporal does not answer the walk stays where it is', async () => {
  const [lost] = await storeStarted(1);
  const engine = { listRunning, isRunning: () => Promise.reject(new Error('14 UNAVAILABLE')) };
  const away = (signal: AbortSignal) => mendOpenOrders({ ...stores, engine, log: silent }, signal);
  await expect(away(new AbortController().signal)).rejects.toThrow('UNAVAILABLE');

  expect(await openStep([lost]).run()).toMatchObject({ repaired: 1 });
});

test('a run that is to stop begins no page', async () => {
  await storeStarted(1);
  const { asked } = openStep();
  const engine = { listRunning, isRunning: async () => true };
  const step = (signal: AbortSignal) => mendOpenOrders({ ...stores, engine, log: silent }, signal);

  expect(await step(AbortSignal.abort())).toEqual({ looked: 0, repaired: 0, parked: 0 });

  expect(asked).toEqual([]);
});
