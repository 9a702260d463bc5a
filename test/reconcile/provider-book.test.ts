/**
 * Reconciliation: the provider's list of payments is compared with MySQL, and what is missing is recorded.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import type { ListedPayment, ProviderPayment, Reversal } from '../../src/domain/payment.ts';
import { sumReversals } from '../../src/domain/reversals.ts';
import { createProviderBookStep, type ProviderBookDeps } from '../../src/reconcile/provider-book.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

interface Entry {
  payment: ProviderPayment;
  reversals?: Reversal[];
}

/**
 * A provider with this book, and what it was asked. Without
 * `listsTotals` its list shows only that there are reversals.
 */
function openBook(book: Entry[], { listsTotals = true } = {}) {
  const since: (number | undefined)[] = [];
  const lookedUp: string[] = [];
  const provider: ProviderBookDeps['provider'] = {
    name: 'sandbox',
    async *listPayments(sinceMs) {
      since.push(sinceMs);
      for (const { payment, reversals = [] } of book) {
        const isUnknown = !listsTotals && reversals.length > 0;
        yield {
          ...payment,
          totals: isUnknown ? null : sumReversals(payment.currency, reversals),
        } satisfies ListedPayment;
      }
    },
    listReversals: async (providerPaymentId) => {
      lookedUp.push(providerPaymentId);
      const entry = book.find(({ payment }) => payment.providerPaymentId === providerPaymentId);
      return entry?.reversals ?? [];
    },
  };
  return { provider, since, lookedUp };
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
  await stores.orders.markPaid(stored.order.orderNo);
  return stored;
}

function look(
  provider: ProviderBookDeps['provider'],
  overrides: Partial<ProviderBookDeps> = {},
  { signal } = new AbortController(),
) {
  const { payments, refunds } = stores;
  return createProviderBookStep({ provider, payments, refunds, log: silent, ...overrides })(signal);
}

test('a payment without a notice is on its order, and is known from then on', async () => {
  const { state, payment } = await storeOrder();
  const { provider, since, lookedUp } = openBook([{ payment }]);

  expect(await look(provider)).toEqual({ looked: 1, repaired: 1, parked: 0 });
  expect(await look(provider)).toEqual({ looked: 1, repaired: 0, parked: 0 });

  expect(await state()).toMatchObject({ payment: 'received', version: 2 });
  expect(since[0]).toBeLessThan(Date.now() - 24 * 60 * 60_000);
  expect(lookedUp).toEqual([]);
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

  expect(await good.state()).toMatchObject({ payment: 'received' });
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

  expect(await good.state()).toMatchObject({ payment: 'received' });
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

  expect(await first.state()).toMatchObject({ payment: 'received' });
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
