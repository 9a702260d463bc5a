/**
 * Poison among a thousand good orders: an outbox entry without a whole order, a row that MySQL refuses, an
 * order whose step always fails, a refund that the provider always refuses. Nothing else is delayed by them,
 * an operator sees each with its cause, and once the cause is gone a retry ends it.
 */

import pLimit from 'p-limit';
import { beforeAll, expect, test } from 'vitest';
import { createActivities } from '../../src/activities/index.ts';
import type { Reversal } from '../../src/money/payment.ts';
import { isUnavailable } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { RefundRefusedError, type PaymentProvider } from '../../src/providers/provider.ts';
import type { Stores } from '../../src/stores/open.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { buildNotice, buildPayment } from '../support/payment-notices.ts';
import { selectOne } from '../support/rows.ts';
import type { TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

const GOOD = 1_000;
const REFUNDS = 50;
/** Bounds a hang on a busy machine. */
const TIMEOUT_MS = 240_000;
const BECAUSE = ['--reason', 'the cause is gone'];
/** Wider than the column, so that MySQL takes neither the order nor its tombstone. */
const WIDE_USER = 'u'.repeat(256);

/** What is poisoned now; a test takes the cause away by taking it out. */
const failingOrders = new Set<string>();
const refusedPayments = new Set<string>();

let checkout: Checkout;
let stores: TestStores;
let saleId: string;
let ops: Ops;
beforeAll(async () => {
  checkout = await openCheckout({ under: poison, inFront: refuse });
  ({ stores } = checkout);
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 2_000, limitPerUser: null }];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
  ops = openOps(stores, { HOLDFAST_URL: checkout.url });
});

function poison(real: TestStores): Stores {
  return {
    ...real,
    orders: {
      ...real.orders,
      async cancel(orderNo, ...how) {
        if (failingOrders.has(orderNo)) throw new Error('a row that cannot be written');
        return real.orders.cancel(orderNo, ...how);
      },
    },
  };
}

/** A provider that knows every payment, and refunds what it does not refuse. */
function refuse(real: PaymentProvider): PaymentProvider {
  const made = new Map<string, Reversal>();
  return {
    ...real,
    listReversals: async (id) => [made.get(id)].filter((reversal) => reversal !== undefined),
    async refund({ providerPaymentId, amount, currency }) {
      if (refusedPayments.has(providerPaymentId))
        throw new RefundRefusedError({ code: 'no_money', message: 'the account is empty', isForGood: false });
      const reversal: Reversal = {
        kind: 'refund',
        providerReversalId: `re_${providerPaymentId}`,
        providerPaymentId,
        amount,
        currency,
        status: 'succeeded',
      };
      made.set(providerPaymentId, reversal);
      return reversal;
    },
  };
}

function accept(orders: number): Promise<Order[]> {
  return Promise.all(Array.from({ length: orders }, () => acceptOrder(stores, saleId)));
}

/** @returns the provider's payment id */
async function pay(order: Order): Promise<string> {
  const notice = buildNotice(buildPayment(order));
  // Sent again where no connection is free in time, as a provider does.
  await waitFor('the notice to be taken', () =>
    stores.payments.receive('sandbox', notice, JSON.stringify(notice)).then(
      () => true,
      (error: unknown) => {
        if (!isUnavailable(error)) throw error;
        return false;
      },
    ),
  );
  return notice.payment.providerPaymentId;
}

async function paymentIdOf(providerPaymentId: string): Promise<number> {
  const sql = 'SELECT payment_id FROM payments WHERE provider_payment_id = ?';
  return Number((await selectOne(stores.pool, sql, [providerPaymentId]))['payment_id']);
}

async function requestRefund(providerPaymentId: string): Promise<void> {
  await stores.refunds.request(await paymentIdOf(providerPaymentId), 'ops');
}

async function count(table: string, condition: string): Promise<number> {
  return Number((await selectOne(stores.pool, `SELECT COUNT(*) AS n FROM ${table} WHERE ${condition}`))['n']);
}

/** Waits until the story of the order shows that this step is tried again and again. */
function awaitFailing(orderNo: string, text: RegExp): Promise<string> {
  return waitFor(
    `${String(text)} to be shown`,
    async () => {
      const { out } = await ops('order', 'show', orderNo);
      const shown = out.replaceAll(/\s+/g, ' ');
      return text.test(shown) && shown;
    },
    TIMEOUT_MS,
  );
}

async function parkedIdOf(reference: string): Promise<string> {
  const found = (await stores.parkedWork.list({ limit: 100 })).find((entry) => entry.reference === reference);
  return String(found?.parkedId);
}

/** An outbox entry whose order Redis has only in part. @returns its orderNo */
async function addDamagedEntry(): Promise<string> {
  const { orderNo } = buildOrder({ saleId });
  await stores.redis.hset(`holdfast:{${saleId}.0}:order:${orderNo}`, 'sale_id', saleId);
  await stores.redis.xadd(`holdfast:{${saleId}.0}:outbox`, '*', 'order_no', orderNo);
  return orderNo;
}

test(
  'poison among 1,000 good orders delays none of them, is parked, and ends by a retry when its cause is gone',
  { timeout: 3 * TIMEOUT_MS },
  async () => {
    const [first, damaged, refused, failing, unrefunded, rest] = [
      await accept(GOOD / 2),
      await addDamagedEntry(),
      await acceptOrder(stores, saleId, { userId: WIDE_USER }),
      await acceptOrder(stores, saleId),
      await acceptOrder(stores, saleId),
      await accept(GOOD / 2),
    ];
    failingOrders.add(failing.orderNo);
    const good = [...first, ...rest];

    // All of the good work is done while each poison is still at its tries.
    await waitFor(
      'all orders to be stored',
      async () => (await count('orders', 'version >= 1')) === GOOD + 2,
      TIMEOUT_MS,
    );
    const refusedPayment = await pay(unrefunded);
    refusedPayments.add(refusedPayment);
    await stores.orders.requestCancel(failing.orderNo);
    const atOnce = pLimit(8);
    const payments = await Promise.all(good.map((order) => atOnce(() => pay(order))));
    await waitFor(
      'all good orders to be paid',
      async () => (await count('orders', `status = 'paid'`)) === GOOD + 1,
      TIMEOUT_MS,
    );
    await requestRefund(refusedPayment);
    for (const payment of payments.slice(0, REFUNDS)) await requestRefund(payment);
    await waitFor(
      'all good refunds',
      async () => (await count('payments', `status = 'refunded'`)) === REFUNDS,
      TIMEOUT_MS,
    );

    const tried = await awaitFailing(failing.orderNo, /cancelOrder at try \d+.*a row that cannot be written/);
    expect(tried).toContain('awaiting_payment, payment none (shopper_request)');
    await awaitFailing(unrefunded.orderNo, /refundPayment at try \d+.*the account is empty/);
    await awaitFailing(refused.orderNo, /abandonOrder at try \d+.*user_id/);

    // What the workflows do after some minutes of patience.
    const paymentId = await paymentIdOf(refusedPayment);
    const steps = createActivities({ ...stores, provider: checkout.provider });
    for (const { orderNo } of [failing, refused])
      await steps.parkOrder({ orderNo, reason: 'Cancel: failed', step: 'Cancel' });
    await steps.parkRefund({ paymentId, reason: 'Refund: refused', step: 'Refund the payment' });

    const { out: list } = await ops('parked', 'list');
    expect(list.trimEnd().split('\n')).toHaveLength(5);
    const entry = (await stores.parkedWork.list({ kind: 'outbox_entry', limit: 2 }))[0];
    const { out: shown } = await ops('parked', 'show', String(entry?.parkedId));
    expect(shown).toMatch(new RegExp(`cause +outbox_entry_unreadable\\n +inputs +orderNo ${damaged}\\n`));

    // A retry while the cause lasts is a further try: its error is noted, and the entry stays.
    const failingId = await parkedIdOf(failing.orderNo);
    await stores.pool.query('UPDATE parked SET last_seen_at = last_seen_at - INTERVAL 1 HOUR');
    expect((await ops('parked', 'retry', failingId, '--reason', 'look')).out).toContain('tried at once');
    await waitFor('the failure to be noted', async () => {
      const noted = await stores.parkedWork.read(Number(failingId));
      return noted && noted.times >= 2 && noted.lastError.endsWith('a row that cannot be written');
    });

    failingOrders.clear();
    refusedPayments.clear();
    await stores.pool.query('ALTER TABLE orders MODIFY COLUMN user_id VARCHAR(300) NOT NULL');
    await stores.redis.hset(`holdfast:{${saleId}.0}:order:${damaged}`, await wholeHash(damaged, rest[0]));
    for (const { parkedId } of await stores.parkedWork.list({ limit: 10 }))
      expect((await ops('parked', 'retry', String(parkedId), ...BECAUSE)).exitCode).toBe(0);

    await waitFor(
      'nothing to be parked',
      async () => (await count('parked', 'resolved_at IS NULL')) === 0,
      TIMEOUT_MS,
    );
    const statusOf = async (orderNo: string) => (await stores.orders.read(orderNo))?.state.status;
    expect(await statusOf(failing.orderNo)).toBe('cancelled');
    // Its workflow abandons it, or a relay stores it before that.
    expect(['failed', 'awaiting_payment']).toContain(await statusOf(refused.orderNo));
    expect(await count('payments', `status = 'refunded'`)).toBe(REFUNDS + 1);
    await waitFor(
      'the damaged order to be stored',
      async () => (await statusOf(damaged)) === 'awaiting_payment',
    );
  },
);

/** The hash as it was before it was damaged: that of a like order, without its state. */
async function wholeHash(orderNo: string, like: Order | undefined): Promise<Record<string, string>> {
  const hash = await stores.redis.hgetall(`holdfast:{${saleId}.0}:order:${like?.orderNo}`);
  return {
    ...hash,
    idempotency_key: orderNo,
    hold: 'held',
    status: 'queued',
    version: '0',
    payment: 'none',
    reason: '',
  };
}
