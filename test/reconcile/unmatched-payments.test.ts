/**
 * The step over unmatched payments: it restores their
 * orders, sends the money back, or shows it to an operator.
 */

import assert from 'node:assert/strict';
import { afterEach, beforeAll, expect, test, vi } from 'vitest';
import type { UnmatchedPayment } from '../../src/money/unmatched.sql.ts';
import type { Order } from '../../src/orders/content.ts';
import { orderDeadlineMs, type OrderState } from '../../src/orders/order.ts';
import { createOrderSigner } from '../../src/providers/signed-order.ts';
import {
  decideUnmatchedPayments,
  type UnmatchedPaymentDeps,
} from '../../src/reconcile/unmatched-payments.ts';
import { orderKeys, saleKeys } from '../../src/redis/keys.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildReserveRequest, buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { ORDER_SIGNING_SECRET, signer } from '../support/signer.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterEach(() => {
  vi.useRealTimers();
});

const AWAY = new Error('connect ECONNREFUSED');

let lastPaymentId = 0;

/** Money as the step finds it. */
function buildUnmatched(orderNo: string, signedOrder: string | null = null): UnmatchedPayment {
  lastPaymentId += 1;
  return {
    paymentId: lastPaymentId,
    providerPaymentId: `pay-${lastPaymentId}`,
    orderNo,
    receivedAtMs: Date.now(),
    signedOrder,
  };
}

/** A step over these payments, and what it decides about them. What is decided is listed no more. */
function openSweep(payments: readonly UnmatchedPayment[], parts: Partial<UnmatchedPaymentDeps> = {}) {
  const left = new Set(payments);
  const decisions: string[] = [];
  const decide = (payment: UnmatchedPayment | undefined, decision: string) => {
    if (payment) left.delete(payment);
    decisions.push(decision);
  };
  const unmatchedPayments: UnmatchedPaymentDeps['unmatchedPayments'] = {
    list: async (limit) => [...left].slice(0, limit),
    refund: async (paymentId, reason) =>
      decide(
        payments.find((payment) => payment.paymentId === paymentId),
        `refund ${reason}`,
      ),
    park: async (providerPaymentId, reason) =>
      decide(
        payments.find((payment) => payment.providerPaymentId === providerPaymentId),
        `park: ${reason}`,
      ),
    hasUndecided: stores.unmatchedPayments.hasUndecided,
  };
  const deps = { ...stores, unmatchedPayments, signer, log: silent, ...parts };
  const pass = () => decideUnmatchedPayments(deps);
  return { pass, decisions };
}

const openSale = (overrides: Partial<Sale> = {}): Promise<Sale> => stores.openSale(buildSale(overrides));

/** An order as its payment session carried it, which no store knows. */
async function loseOrder(saleId: string, overrides: Partial<Order> = {}) {
  const order = buildOrder({ saleId, ip: '', userAgent: '', ...overrides });
  return { order, unmatched: buildUnmatched(order.orderNo, await signer.sign(order)) };
}

/** The payment's row in MySQL, where storing the order finds it. */
const receive = ({ orderNo, total: amount, currency }: Pick<Order, 'orderNo' | 'total' | 'currency'>) =>
  stores.payments.record('sandbox', {
    providerPaymentId: `pay-of-${orderNo}`,
    orderNo,
    amount,
    currency,
    signedOrder: null,
  });

const paymentOf = ({ orderNo }: Order) =>
  selectOne(stores.pool, 'SELECT status, refund_reason FROM payments WHERE order_no = ?', [orderNo]);

const project = ({ orderNo }: Order, state: Partial<OrderState>) =>
  stores.reservations.project(orderNo, {
    status: 'awaiting_payment',
    version: 1,
    payment: 'none',
    reason: null,
    ...state,
  });

const queued = ({ saleId }: Pick<Order, 'saleId'>) =>
  stores.redis.xlen(saleKeys({ saleId, shard: 0 }).outbox);

test('with no such money a pass decides nothing and asks for nothing else', async () => {
  const sales = { ...stores.sales, listIds: () => Promise.reject(AWAY) };
  const { pass, decisions } = openSweep([], { sales });
  expect(await pass()).toEqual({ looked: 0, repaired: 0, parked: 0 });
  expect(decisions).toEqual([]);
});

test.each<[string, Partial<OrderState>]>([
  ['waits in the outbox', { version: 0 }],
  ['awaits payment, as far as Redis knows', { version: 1 }],
  ['is closing', { version: 2, reason: 'shopper_request' }],
  ['is paid, as far as Redis knows', { version: 3, status: 'paid', payment: 'applied' }],
])('an order that %s and is not in MySQL is stored there, and paid by its money', async (_, state) => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  await project(order, state);
  await receive(order);
  const { pass, decisions } = openSweep([buildUnmatched(order.orderNo)]);

  await pass();

  expect(decisions).toEqual([]);
  expect(await stores.orders.read(order.orderNo)).toMatchObject({
    order,
    state: { status: 'paid', payment: 'applied' },
  });
});

test.each<[string, Partial<OrderState>]>([
  ['payable', { version: 1 }],
  ['closing', { version: 2, reason: 'shopper_request' }],
  ['paid', { version: 2, status: 'paid', payment: 'applied' }],
  ['paid after it was closing', { version: 3, status: 'paid', payment: 'applied' }],
  ['paid and refunded', { version: 4, status: 'paid', payment: 'refunded', refunded: 4_900 }],
])('an order that was shown as %s and that MySQL has lost is shown as MySQL has it', async (_, state) => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  const { orderNo } = order;
  await project(order, state);
  await receive(order);
  const read = async () => (await stores.reservations.readOrder(orderNo))?.state;

  await openSweep([buildUnmatched(orderNo)]).pass();

  const { state: paid } = (await stores.orders.read(orderNo)) ?? {};
  assert(paid, 'it is stored');
  expect(paid).toMatchObject({ status: 'paid', payment: 'applied' });
  expect(paid.version).toBeGreaterThanOrEqual(state.version ?? 0);
  // No status goes back, and nothing that was shown hides what comes.
  expect(await read()).toMatchObject({ status: 'paid', payment: state.payment ?? 'applied' });
  const later = { ...paid, version: paid.version + 1, payment: 'disputed' } as const;
  await stores.reservations.project(orderNo, later);
  expect(await read()).toMatchObject({ version: later.version, payment: 'disputed' });
  expect(await stores.orderBooks.checkAfter('', 10_000)).toMatchObject({ broken: [] });
});

test('an order that was shown as payable and that MySQL refuses now is shown as failed', async () => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  await project(order, { version: 1 });
  await stores.pool.query("UPDATE skus SET total = 0 WHERE sale_id = ? AND sku = 'lamp'", [saleId]);

  await openSweep([buildUnmatched(order.orderNo)]).pass();

  const failed = { status: 'failed', version: 2, reason: 'stock_exhausted' };
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject(failed);
  expect((await stores.reservations.readOrder(order.orderNo))?.state).toMatchObject(failed);
  expect(await stores.orderBooks.checkAfter('', 10_000)).toMatchObject({ broken: [] });
});

test('pollers see an order that is stored and paid, its hold is sold, and it needs no workflow', async () => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  await receive(order);

  await openSweep([buildUnmatched(order.orderNo)]).pass();

  expect((await stores.reservations.readOrder(order.orderNo))?.state).toMatchObject({ status: 'paid' });
  expect(await stores.redis.hget(orderKeys(order.orderNo).order, 'hold')).toBe('sold');
  await stores.pool.query('UPDATE orders SET engine_due_at = NOW(3) WHERE engine_due_at > NOW(3)');
  const due = await stores.orderClaims.take(100);
  expect(due.map((stored) => stored.order.orderNo)).not.toContain(order.orderNo);
});

test('an order whose payment has a wrong amount is stored, shown to pollers and due for the engine', async () => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  await receive({ ...order, total: order.total + 1 });

  await openSweep([buildUnmatched(order.orderNo)]).pass();

  expect(await paymentOf(order)).toMatchObject({ status: 'parked' });
  expect((await stores.reservations.readOrder(order.orderNo))?.state).toMatchObject({
    status: 'awaiting_payment',
    payment: 'none',
  });
  await stores.pool.query('UPDATE orders SET engine_due_at = NOW(3) WHERE engine_due_at > NOW(3)');
  const due = await stores.orderClaims.take(100);
  expect(due.map((stored) => stored.order.orderNo)).toContain(order.orderNo);
});

test.each(['cancelled', 'failed'] as const)(
  'money for an order that has %s, as far as Redis knows, goes back',
  async (status) => {
    const { saleId } = await openSale();
    const order = await acceptOrder(stores, saleId);
    await project(order, { status, reason: 'store_unavailable' });
    const { pass, decisions } = openSweep([buildUnmatched(order.orderNo, await signer.sign(order))]);

    await pass();

    expect(decisions).toEqual(['refund order_ended']);
    expect(await stores.orders.read(order.orderNo)).toBeUndefined();
  },
);

test('money for an order that MySQL refuses goes back, and then its stock', async () => {
  const { saleId } = await openSale();
  const request = { idempotencyKey: 'once' };
  const first = await acceptOrder(stores, saleId, request);
  await stores.orders.storeOrder(first, 'started');
  // Redis forgets the key, so the same request is accepted once more.
  await stores.redis.del(orderKeys(first.orderNo).idem(first.userId, 'once'));
  const second = await acceptOrder(stores, saleId, request);
  await receive(second);
  const { reservations } = stores;
  const release: typeof reservations.release = async (orderNo) => {
    expect((await stores.orders.read(orderNo))?.state.status).toBe('failed');
    return reservations.release(orderNo);
  };
  const { pass, decisions } = openSweep([buildUnmatched(second.orderNo)], {
    reservations: { ...reservations, release },
  });

  await pass();

  expect(decisions).toEqual([]);
  expect((await stores.orders.read(second.orderNo))?.state).toMatchObject({
    status: 'failed',
    reason: 'duplicate_request',
  });
  expect(await paymentOf(second)).toEqual({ status: 'refund_due', refund_reason: 'order_ended' });
  // The first one's alone.
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('money for an order that was paid, and that MySQL refuses now, is left to an operator', async () => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  await project(order, { version: 3, status: 'paid', payment: 'applied' });
  await stores.pool.query("UPDATE skus SET total = 0 WHERE sale_id = ? AND sku = 'lamp'", [saleId]);
  const { pass, decisions } = openSweep([buildUnmatched(order.orderNo)]);

  await pass();

  expect(decisions).toEqual([
    `park: order ${order.orderNo} was paid, and cannot be stored again: stock_exhausted`,
  ]);
});

test('money for an order that Redis has, but not whole, is left to an operator', async () => {
  const { saleId } = await openSale();
  const order = await acceptOrder(stores, saleId);
  await stores.redis.hdel(orderKeys(order.orderNo).order, 'items');
  const { pass, decisions } = openSweep([buildUnmatched(order.orderNo)]);

  await pass();

  expect(decisions).toEqual([`park: Redis has order ${order.orderNo}, but not whole`]);
});

test.each([
  ['no sale of ours', buildOrder().orderNo],
  ['no order at all', 'INV-2026-11'],
])('money that names %s is left to an operator', async (_, orderNo) => {
  const { pass, decisions } = openSweep([buildUnmatched(orderNo)]);
  await pass();
  expect(decisions).toEqual([`park: it names no order of any sale: ${orderNo}`]);
});

test('a lost order is restored from its essentials: held and queued, after its deadline and that of the sale', async () => {
  const { saleId } = await openSale({ paused: true, closesAtMs: Date.now() - 1 });
  const reservedAtMs = Date.now() - 60 * 60_000;
  const { order, unmatched } = await loseOrder(saleId, { reservedAtMs, userId: 'bo' });
  expect(orderDeadlineMs(order)).toBeLessThan(Date.now());
  const { pass, decisions } = openSweep([unmatched]);

  await pass();

  expect(decisions).toEqual([]);
  expect((await stores.reservations.readOrder(order.orderNo))?.order).toEqual(order);
  expect(await queued(order)).toBe(1);
});

test('a restored order that is not stored by the next pass is stored by it, with its money', async () => {
  const { saleId } = await openSale();
  const { order, unmatched } = await loseOrder(saleId);
  await receive(order);
  const { pass, decisions } = openSweep([unmatched]);

  await pass();
  await pass();

  expect(decisions).toEqual([]);
  expect((await stores.orders.read(order.orderNo))?.state.payment).toBe('applied');
  expect(await queued(order)).toBe(1);
});

test('two runs at once restore an order once', async () => {
  const { saleId } = await openSale();
  const { order, unmatched } = await loseOrder(saleId);
  const [one, other] = [openSweep([unmatched]), openSweep([unmatched])];

  await Promise.all([one.pass(), other.pass()]);

  expect([...one.decisions, ...other.decisions]).toEqual([]);
  expect(await queued(order)).toBe(1);
  expect((await stores.saleStock.read(saleId))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('essentials that were signed before the secret was changed are as good', async () => {
  const { saleId } = await openSale();
  const { order, unmatched } = await loseOrder(saleId);
  const rotated = createOrderSigner(['the-secret-of-now-with-enough-characters', ORDER_SIGNING_SECRET]);

  await openSweep([unmatched], { signer: rotated }).pass();

  expect(await queued(order)).toBe(1);
});

test('money for a lost order whose stock is sold goes back', async () => {
  const { saleId } = await openSale();
  const items = [{ sku: 'mug', quantity: 5 }];
  await stores.reservations.reserve(buildReserveRequest({ saleId, items }));
  const lost = await loseOrder(saleId, { items: [{ sku: 'mug', quantity: 1, unitPrice: 1_450 }] });
  const { pass, decisions } = openSweep([lost.unmatched]);

  await pass();

  expect(decisions).toEqual(['refund sold_out']);
});

test('money for a lost order of a SKU that is on sale no more goes back', async () => {
  const { saleId } = await openSale();
  const lost = await loseOrder(saleId, { items: [{ sku: 'sofa', quantity: 1, unitPrice: 1 }] });
  const { pass, decisions } = openSweep([lost.unmatched]);

  await pass();

  expect(decisions).toEqual(['refund sold_out']);
});

test('money that comes without essentials, for an order that no store knows, goes back', async () => {
  const { saleId } = await openSale();
  const order = buildOrder({ saleId });
  const { pass, decisions } = openSweep([buildUnmatched(order.orderNo)]);

  await pass();

  expect(decisions).toEqual(['refund order_unknown']);
  expect(await queued(order)).toBe(0);
});

const STRANGE: [string, (order: Order) => Promise<string>][] = [
  ['essentials that are none', async () => 'eyJhbGciOiJub25lIn0.e30.'],
  ['essentials that another shop signed', (order) => createOrderSigner(['x'.repeat(32)]).sign(order)],
  ['the essentials of another order', ({ saleId }) => signer.sign(buildOrder({ saleId }))],
];

test.each(STRANGE)(
  'money that comes with %s is shown to an operator, and never sent back unasked',
  async (_, sign) => {
    const { saleId } = await openSale();
    const order = buildOrder({ saleId });
    const { pass, decisions } = openSweep([buildUnmatched(order.orderNo, await sign(order))]);

    await pass();

    expect(decisions).toEqual([`park: it carries an order that is not ours: ${order.orderNo}`]);
    expect(await queued(order)).toBe(0);
  },
);

/** A sale that Redis has lost, and two payments for it: one with essentials, one without. */
async function loseSale() {
  const sale = await openSale();
  const { order, unmatched } = await loseOrder(sale.saleId);
  const { sale: saleKey, stock } = saleKeys({ saleId: sale.saleId, shard: 0 });
  await stores.redis.del(saleKey, stock);
  return { sale, order, unmatched: [unmatched, buildUnmatched(buildOrder({ saleId: sale.saleId }).orderNo)] };
}

test('while its sale is not in Redis money waits, and it is decided once the sale is back', async () => {
  const { sale, order, unmatched } = await loseSale();
  const { pass, decisions } = openSweep(unmatched);

  await pass();
  expect(decisions).toEqual([]);

  const document = { sale };
  await stores.saleStock.change(
    { saleId: sale.saleId, changeNo: 2, changeId: 'new', action: 'warm_up', epoch: 1, document },
    async () => true,
  );
  await pass();
  expect(decisions).toEqual(['refund order_unknown']);
  expect(await queued(order)).toBe(1);
});

test('money for a sale whose data are gone from Redis for good goes back, signed or not', async () => {
  const { sale, unmatched } = await loseSale();
  await stores.retention.noteRedisCleaned(sale.saleId);
  const { pass, decisions } = openSweep(unmatched);
  await pass();
  expect(decisions).toEqual(['refund order_unknown', 'refund order_unknown']);
});

test('the money of a sale that stays away for an hour is shown to an operator', async () => {
  const { unmatched } = await loseSale();
  const { pass, decisions } = openSweep(unmatched);
  await pass();

  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 59 * 60_000 });
  await pass();
  expect(decisions).toEqual([]);

  vi.setSystemTime(Date.now() + 60_000);
  await pass();
  expect(decisions.toSorted()).toEqual(
    unmatched
      .map(({ orderNo }) => `park: order ${orderNo} is not known, and its sale is not in Redis`)
      .toSorted(),
  );
});

test('money that came an hour ago is shown at the first look of a process that has just started', async () => {
  const { unmatched } = await loseSale();
  const [old, young] = unmatched;
  if (!old || !young) throw new Error('no money');
  const hourAgo = { ...old, receivedAtMs: Date.now() - 60 * 60_000 };
  const { pass, decisions } = openSweep([hourAgo, young]);

  await pass();

  expect(decisions).toEqual([`park: order ${old.orderNo} is not known, and its sale is not in Redis`]);
});

/** Every way in which a lost, a known and an unknown order could be decided. */
async function openEachKind() {
  const { saleId } = await openSale();
  const known = await acceptOrder(stores, saleId);
  const lost = await loseOrder(saleId);
  return {
    known: buildUnmatched(known.orderNo),
    lost: lost.unmatched,
    unknown: buildUnmatched(buildOrder({ saleId }).orderNo),
  };
}

const redisAway = (): UnmatchedPaymentDeps['reservations'] => ({
  ...stores.reservations,
  readOrder: () => Promise.reject(AWAY),
  reserveAgain: () => Promise.reject(AWAY),
  project: () => Promise.reject(AWAY),
  confirm: () => Promise.reject(AWAY),
  release: () => Promise.reject(AWAY),
});

test.each<[string, () => Partial<UnmatchedPaymentDeps>]>([
  [
    'Redis is away',
    () => ({
      reservations: redisAway(),
      saleStock: { ...stores.saleStock, checkLife: () => Promise.reject(AWAY) },
    }),
  ],
  [
    'MySQL is away',
    () => ({
      sales: {
        ...stores.sales,
        isWatched: () => Promise.reject(AWAY),
        listIds: () => Promise.reject(AWAY),
      },
    }),
  ],
])('while %s nothing is decided, and the next pass decides', async (_, parts) => {
  const unmatched = Object.values(await openEachKind());
  const { pass, decisions } = openSweep(unmatched, parts());

  await expect(pass()).rejects.toThrow('ECONNREFUSED');
  expect(decisions).toEqual([]);

  const next = openSweep(unmatched);
  await next.pass();
  expect(next.decisions).toEqual(['refund order_unknown']);
});

test('money that Redis is too full to restore an order for waits', async () => {
  const { saleId } = await openSale();
  const lost = await loseOrder(saleId);
  const { pass, decisions } = openSweep([lost.unmatched]);
  // One byte is always used up already, so Redis refuses whatever wants memory.
  await stores.redis.config('SET', 'maxmemory', '1');
  try {
    await expect(pass()).rejects.toThrow(/^OOM /);
  } finally {
    await stores.redis.config('SET', 'maxmemory', '0');
  }
  expect(decisions).toEqual([]);
  await pass();
  expect(await queued(lost.order)).toBe(1);
});

const cannotStore = (): UnmatchedPaymentDeps['orders'] => ({
  ...stores.orders,
  storeOrder: () => Promise.reject(new Error('unheard of')),
  abandon: () => Promise.reject(new Error('unheard of')),
  parkLostHold: () => Promise.reject(new Error('unheard of')),
});

test('one payment that cannot be decided holds up no other', async () => {
  const { known, lost, unknown } = await openEachKind();
  const { pass, decisions } = openSweep([known, lost, unknown], { orders: cannotStore() });

  expect(await pass()).toEqual({ looked: 3, repaired: 2, parked: 0 });

  expect(decisions).toEqual(['refund order_unknown']);
  expect(await stores.redis.exists(orderKeys(lost.orderNo).order)).toBe(1);
});

test('money that cannot be decided for an hour is shown to an operator, alone or among others', async () => {
  const { known } = await openEachKind();
  const young = openSweep([known], { orders: cannotStore() });
  await expect(young.pass()).rejects.toThrow('unheard of');

  const hourAgo = { ...known, receivedAtMs: Date.now() - 60 * 60_000 };
  const { pass, decisions } = openSweep([hourAgo, { ...known }], { orders: cannotStore() });
  await pass();
  expect(decisions).toEqual(['park: nothing could be decided: Error: unheard of']);
  // What is left is young, and all of it fails.
  await expect(pass()).rejects.toThrow('unheard of');
});
