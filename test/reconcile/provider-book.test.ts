/**
 * Reconciliation: the provider's list of payments is compared with MySQL, and what is missing is recorded.
 */

import { beforeAll, beforeEach, expect, test } from 'vitest';
import {
  type ListedPayment,
  type ProviderPayment,
  type Reversal,
  sumReversals,
} from '../../src/money/payment.ts';
import { UnreadablePaymentsError } from '../../src/providers/provider.ts';
import type { BookWalk, BookWalkState } from '../../src/reconcile/compared-book.sql.ts';
import { compareProviderBook, type ProviderBookDeps } from '../../src/reconcile/provider-book.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(() => stores.pool.query('DELETE FROM reconcile_cursors'));

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

interface Entry {
  payment: ProviderPayment;
  reversals?: Reversal[];
  /** A minute by default. */
  begunAgoMs?: number;
}

/**
 * A provider with this book, and what it was asked. Without
 * `listsTotals` its list shows only that there are reversals.
 */
function openBook(book: Entry[], { listsTotals = true } = {}) {
  const slices: { fromMs: number; untilMs: number }[] = [];
  const lookedUp: string[] = [];
  const provider: ProviderBookDeps['provider'] = {
    name: 'sandbox',
    async *listPayments(fromMs = 0, untilMs = Infinity) {
      slices.push({ fromMs, untilMs });
      for (const { payment, reversals = [], begunAgoMs = MINUTE_MS } of book) {
        const begunAtMs = Date.now() - begunAgoMs;
        if (begunAtMs < fromMs || begunAtMs >= untilMs) continue;
        const totals = sumReversals(payment.currency, reversals);
        const isUnknown = !listsTotals && reversals.length > 0;
        yield {
          ...payment,
          ...(isUnknown ? { totals: null, counted: count(payment, reversals) } : { totals }),
        } satisfies ListedPayment;
      }
    },
    listReversals: async (providerPaymentId) => {
      lookedUp.push(providerPaymentId);
      const entry = book.find(({ payment }) => payment.providerPaymentId === providerPaymentId);
      return entry?.reversals ?? [];
    },
  };
  return { provider, slices, lookedUp };
}

/** As Stripe's list has it: refunds also while they are pending, and disputes also when they are over. */
function count({ currency }: ProviderPayment, reversals: readonly Reversal[]) {
  const refunds = reversals.filter(({ kind }) => kind === 'refund');
  const { succeeded, pending } = sumReversals(currency, refunds);
  return { refunded: succeeded + pending, wasDisputed: refunds.length < reversals.length };
}

function buildReversal({ providerPaymentId, amount, currency }: ProviderPayment, change: Partial<Reversal>) {
  const reversal: Reversal = {
    kind: 'refund',
    providerReversalId: `re-${providerPaymentId}`,
    providerPaymentId,
    amount,
    currency,
    status: 'succeeded',
  };
  return { ...reversal, ...change };
}

async function storeOrder() {
  const sale = await stores.openSale(buildSale());
  const order = buildOrder({ saleId: sale.saleId });
  await stores.orders.storeOrder(order, 'started');
  const payment: ProviderPayment = {
    providerPaymentId: `pay-${order.orderNo}`,
    orderNo: order.orderNo,
    amount: order.total,
    currency: order.currency,
    signedOrder: null,
  };
  const state = async () => (await stores.orders.read(order.orderNo))?.state;
  return { order, payment, state };
}

async function storePaidOrder() {
  const stored = await storeOrder();
  await stores.payments.record('sandbox', stored.payment);
  return stored;
}

function look(
  provider: ProviderBookDeps['provider'],
  overrides: Partial<ProviderBookDeps> = {},
  { signal } = new AbortController(),
) {
  return compareProviderBook({ ...stores, provider, log: silent, ...overrides }, signal);
}

test('a fee that no notice told is recorded, and is no repair', async () => {
  const [told, untold] = [await storePaidOrder(), await storePaidOrder()];
  const { provider } = openBook([{ payment: { ...told.payment, fee: 74 } }, { payment: untold.payment }]);
  expect(await look(provider)).toEqual({ looked: 2, repaired: 0, parked: 0 });
  const ids = [told, untold].map(({ payment }) => payment.providerPaymentId);
  const recorded = await stores.payments.readReversalTotals('sandbox', ids);
  expect(ids.map((id) => recorded.get(id)?.fee)).toEqual([74, null]);
  // A list that tells a fee no more, or not yet, takes none away.
  await look(openBook([{ payment: told.payment }]).provider);
  const after = await stores.payments.readReversalTotals('sandbox', ids);
  expect(ids.map((id) => after.get(id)?.fee)).toEqual([74, null]);
});

test('a payment without a notice is on its order, and is known from then on', async () => {
  const { state, payment } = await storeOrder();
  const { provider, slices, lookedUp } = openBook([{ payment }]);

  expect(await look(provider)).toEqual({ looked: 1, repaired: 1, parked: 0 });
  expect(await look(provider)).toEqual({ looked: 1, repaired: 0, parked: 0 });

  expect(await state()).toMatchObject({ payment: 'applied', version: 2 });
  expect(Math.min(...slices.map(({ fromMs }) => fromMs))).toBeLessThan(Date.now() - 24 * HOUR_MS);
  expect(lookedUp).toEqual([]);
});

test('payments that cannot be read hold up none that come after them', async () => {
  const [near, later] = [await storeOrder(), await storeOrder()];
  const { provider, slices } = openBook([
    { payment: near.payment, begunAgoMs: 30 * MINUTE_MS },
    { payment: later.payment },
  ]);
  const { listPayments } = provider;
  const oddAtMs = Date.now() - 35 * MINUTE_MS;
  async function* listWithOdd(...[fromMs = 0, untilMs = Infinity]: Parameters<typeof listPayments>) {
    yield* listPayments(fromMs, untilMs);
    if (oddAtMs >= fromMs && oddAtMs < untilMs) throw new UnreadablePaymentsError(1, undefined);
  }

  await look({ ...provider, listPayments: listWithOdd });

  expect([await near.state(), await later.state()]).toMatchObject([
    { payment: 'applied' },
    { payment: 'applied' },
  ]);
  // It counts as not compared: the next look begins with it again.
  slices.length = 0;
  await look({ ...provider, listPayments: listWithOdd });
  expect(Math.min(...slices.map(({ fromMs }) => fromMs))).toBeLessThanOrEqual(oddAtMs);
});

test.each([
  ['its list shows', true],
  ['only its reversals show', false],
])('money that went back without a notice, which %s, is on the order as well', async (_what, listsTotals) => {
  const { state, payment } = await storePaidOrder();

  await look(openBook([{ payment, reversals: [buildReversal(payment, {})] }], { listsTotals }).provider);

  expect(await state()).toMatchObject({ status: 'paid', payment: 'refunded' });
});

test('a refund that failed after it had succeeded is no longer money that went back', async () => {
  const { state, payment, order } = await storePaidOrder();
  await look(openBook([{ payment, reversals: [buildReversal(payment, {})] }]).provider);
  expect(await state()).toMatchObject({ payment: 'refunded' });

  await look(openBook([{ payment, reversals: [buildReversal(payment, { status: 'failed' })] }]).provider);

  expect(await state()).toMatchObject({ payment: 'applied' });
  const [rows] = await stores.pool.query('SELECT status FROM payments WHERE order_no = ?', [order.orderNo]);
  expect(rows).toEqual([{ status: 'refund_due' }]);
});

test.each([
  ['lost', 'succeeded', 'refunded'],
  ['won', 'failed', 'applied'],
] as const)(
  'a chargeback without a notice is seen while it is open, and when it is %s',
  async (_how, status, shown) => {
    const { state, payment } = await storePaidOrder();
    const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });

    await look(openBook([{ payment, reversals: [dispute] }]).provider);
    expect(await state()).toMatchObject({ payment: 'disputed' });
    await look(openBook([{ payment, reversals: [{ ...dispute, status }] }]).provider);

    expect(await state()).toMatchObject({ status: 'paid', payment: shown });
  },
);

test('what is known changes nothing, and the provider is not asked about it again', async () => {
  const { state, payment } = await storePaidOrder();
  const other = await storePaidOrder();
  const part = buildReversal(payment, { amount: 1 });
  const dispute = buildReversal(other.payment, { kind: 'dispute', status: 'pending' });
  await stores.refunds.recordReversals('sandbox', [part, dispute]);
  const before = [await state(), await other.state()];
  const { provider, lookedUp } = openBook([
    { payment, reversals: [part] },
    { payment: other.payment, reversals: [dispute] },
  ]);

  await look(provider);

  expect([await state(), await other.state()]).toEqual(before);
  expect(lookedUp).toEqual([]);
});

test('money that came and went without a notice is never on its order', async () => {
  const { order, payment } = await storeOrder();
  const seen: unknown[] = [];
  const { provider } = openBook([{ payment, reversals: [buildReversal(payment, {})] }]);

  await look(provider, {
    payments: {
      ...stores.payments,
      record: async (...what) => {
        const [rows] = await stores.pool.query('SELECT status FROM reversals WHERE provider_payment_id = ?', [
          payment.providerPaymentId,
        ]);
        seen.push(rows);
        await stores.payments.record(...what);
      },
    },
  });

  // Else the order's workflow could have found it between the two.
  expect(seen).toEqual([[{ status: 'succeeded' }]]);
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject({ payment: 'none', version: 1 });
  const [rows] = await stores.pool.query('SELECT status FROM payments WHERE order_no = ?', [order.orderNo]);
  expect(rows).toEqual([{ status: 'refunded' }]);
});

test('a payment that cannot be looked up is left for the next look, and holds up no other', async () => {
  const [bad, good] = [await storeOrder(), await storeOrder()];
  const { provider } = openBook([
    { payment: bad.payment, reversals: [buildReversal(bad.payment, {})] },
    { payment: good.payment },
  ]);
  const failing = { ...provider, listReversals: () => Promise.reject(new Error('away')) };

  expect(await look(failing)).toEqual({ looked: 2, repaired: 1, parked: 0 });

  expect(await good.state()).toMatchObject({ payment: 'applied' });
  const known = await stores.payments.readReversalTotals('sandbox', [bad.payment.providerPaymentId]);
  expect(known.size).toBe(0);
  await look(provider);
  expect((await stores.payments.readReversalTotals('sandbox', [bad.payment.providerPaymentId])).size).toBe(1);
});

test('a payment that cannot be recorded holds up no other either', async () => {
  const [bad, good] = [await storeOrder(), await storeOrder()];
  const { provider } = openBook([bad, good]);

  await look(provider, {
    payments: {
      ...stores.payments,
      record: (name, payment) =>
        payment.orderNo === bad.order.orderNo
          ? Promise.reject(new Error('deadlock'))
          : stores.payments.record(name, payment),
    },
  });

  expect(await good.state()).toMatchObject({ payment: 'applied' });
  expect(await bad.state()).toMatchObject({ payment: 'none' });
});

test('a look fails where none of its payments could be compared', async () => {
  const { payment } = await storePaidOrder();
  const { provider } = openBook([{ payment, reversals: [buildReversal(payment, {})] }]);

  const looking = look({ ...provider, listReversals: () => Promise.reject(new Error('away')) });

  await expect(looking).rejects.toThrow('none of 1 payments');
});

test('a look that is to stop ends between two payments', async () => {
  const [first, second] = [await storeOrder(), await storeOrder()];
  const stopping = new AbortController();

  const payments: ProviderBookDeps['payments'] = {
    ...stores.payments,
    record: async (...what) => {
      stopping.abort();
      await stores.payments.record(...what);
    },
  };
  await look(openBook([first, second]).provider, { payments }, stopping);

  expect(await first.state()).toMatchObject({ payment: 'applied' });
  expect(await second.state()).toMatchObject({ payment: 'none' });
});

test('a look that is to stop at the end of the list does not begin to compare', async () => {
  const { state, payment } = await storeOrder();
  const stopping = new AbortController();
  const { provider } = openBook([{ payment }]);
  const stoppedAtTheEnd: ProviderBookDeps['provider'] = {
    ...provider,
    async *listPayments() {
      yield* provider.listPayments();
      stopping.abort();
    },
  };

  expect(await look(stoppedAtTheEnd, {}, stopping)).toEqual({ looked: 1, repaired: 0, parked: 0 });

  expect(await state()).toMatchObject({ payment: 'none' });
});

/** How far back a look went, in hours. */
const hoursBack = (slices: { fromMs: number }[]) =>
  Math.round((Date.now() - Math.min(...slices.map(({ fromMs }) => fromMs))) / HOUR_MS);

const readWalk = (walk: BookWalk) => stores.comparedBook.read('sandbox', walk);

async function changeWalk(walk: BookWalk, change: Partial<BookWalkState>): Promise<void> {
  await stores.comparedBook.save('sandbox', walk, { ...(await readWalk(walk)), ...change });
}

test('a look lists what may have been collected since the last, and the whole day once an hour', async () => {
  const { provider, slices } = openBook([]);
  await look(provider);
  expect(hoursBack(slices.splice(0))).toBe(26);

  await look(provider);
  // Half an hour to pay, or 40 minutes at Stripe, and some slack.
  expect(hoursBack(slices)).toBe(1);
  expect(slices.splice(0).every(({ fromMs, untilMs }) => untilMs > fromMs)).toBe(true);

  await changeWalk('far', { finished: Date.now() - 2 * HOUR_MS });
  await look(provider);
  expect(hoursBack(slices)).toBe(26);
});

test('after an outage a look goes back to what was compared before it', async () => {
  const { provider, slices } = openBook([]);
  await look(provider);
  slices.length = 0;

  await changeWalk('near', { finished: Date.now() - 5 * HOUR_MS });
  await look(provider);

  expect(hoursBack(slices)).toBe(6);
});

test('in a MySQL that was restored after days a look goes back to what its backup had compared', async () => {
  const { provider, slices } = openBook([]);
  const finished = Date.now() - 3 * 24 * HOUR_MS;
  for (const walk of ['near', 'far'] as const) await changeWalk(walk, { finished });
  const { payment, state } = await storeOrder();
  const old = await storePaidOrder();
  const lost = openBook([
    { payment, begunAgoMs: 50 * HOUR_MS },
    { payment: old.payment, reversals: [buildReversal(old.payment, {})], begunAgoMs: 80 * HOUR_MS },
  ]);

  const isBehind = async (walk: BookWalk) => (await readWalk(walk)).finished === finished;
  while ((await isBehind('near')) || (await isBehind('far'))) await look(lost.provider);

  expect(await state()).toMatchObject({ payment: 'applied' });
  expect(await old.state()).toMatchObject({ payment: 'refunded' });
  // Afterwards as ever.
  await look(provider);
  expect(hoursBack(slices)).toBe(1);
});

test('the longest window of a sale that may still be paid is how far back a near look goes', async () => {
  await stores.openSale(buildSale({ paymentWindowMs: 3 * HOUR_MS }));
  const { provider, slices } = openBook([]);
  await look(provider);
  slices.length = 0;

  await look(provider);

  expect(Math.min(...slices.map(({ fromMs }) => fromMs))).toBeLessThan(Date.now() - 3 * HOUR_MS);
  await stores.pool.query('UPDATE sales SET payment_window_ms = 1800000');
});

test('a look that dies goes on where all before was compared, and compares the rest', async () => {
  const early = { ...(await storeOrder()), begunAgoMs: 50 * MINUTE_MS };
  const late = { ...(await storeOrder()), begunAgoMs: MINUTE_MS };
  const { provider, slices } = openBook([early, late]);
  let isAway = false;
  const dying: ProviderBookDeps['provider'] = {
    ...provider,
    async *listPayments(fromMs, untilMs) {
      if (isAway) throw new Error('away');
      for await (const payment of provider.listPayments(fromMs, untilMs)) {
        isAway = true;
        yield payment;
      }
    },
  };

  await expect(look(dying)).rejects.toThrow('away');
  expect([await early.state(), await late.state()]).toMatchObject([
    { payment: 'applied' },
    { payment: 'none' },
  ]);
  const [last] = slices.slice(-1);
  slices.length = 0;
  await look(provider);

  expect(slices[0]?.fromMs).toBe(last?.untilMs);
  expect(await late.state()).toMatchObject({ payment: 'applied' });
});

test('a look is bounded, and the next one goes on', async () => {
  const { provider, slices } = openBook([]);
  await look(provider);
  await changeWalk('near', { finished: 1 });
  slices.length = 0;
  await look(provider);
  expect(slices.length).toBeLessThanOrEqual(60);
  const { at } = await readWalk('near');
  slices.length = 0;

  await look(provider);

  expect(slices[0]?.fromMs).toBe(at);
});

test('a payment that cannot be compared is met again, and is not taken for known meanwhile', async () => {
  const { payment } = await storePaidOrder();
  const { provider, lookedUp } = openBook([{ payment, reversals: [buildReversal(payment, {})] }]);
  const failing = { ...provider, listReversals: () => Promise.reject(new Error('away')) };

  await expect(look(failing)).rejects.toThrow('none of 1 payments');
  expect(await readWalk('near')).toMatchObject({ failedFrom: expect.any(Number), complete: 0 });
  await look(provider);

  expect(lookedUp).toEqual([payment.providerPaymentId]);
  expect((await readWalk('near')).complete).toBeGreaterThan(0);
});

test('a list that only counts is asked about when its counts change, and about what is pending rarely', async () => {
  const { payment, state } = await storePaidOrder();
  const part = buildReversal(payment, { amount: 1 });
  const dispute = buildReversal(payment, {
    kind: 'dispute',
    providerReversalId: `dp-${payment.providerPaymentId}`,
    status: 'pending',
  });
  const lookAt = async (reversals: Reversal[], begunAgoMs = MINUTE_MS) => {
    const { provider, lookedUp } = openBook([{ payment, reversals, begunAgoMs }], { listsTotals: false });
    await look(provider);
    return lookedUp.length;
  };

  expect(await lookAt([part])).toBe(1);
  expect(await lookAt([part])).toBe(0);
  expect(await lookAt([part, dispute])).toBe(1);
  expect(await state()).toMatchObject({ payment: 'disputed' });
  expect(await lookAt([part, dispute])).toBe(0);
  // The rare look over the whole day asks how it ended.
  await changeWalk('far', { finished: 0 });
  expect(await lookAt([part, { ...dispute, status: 'failed' }], 5 * HOUR_MS)).toBe(1);
  expect(await state()).toMatchObject({ payment: 'partially_refunded' });
});
