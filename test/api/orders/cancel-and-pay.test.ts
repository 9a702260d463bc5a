/** Cancelling an order and opening its payment page, up to the moment at which the workflow takes over. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import type { WishRecorded } from '../../../src/orders/orders.sql.ts';
import { rebuildSale } from '../../../src/reconcile/rebuild-sale.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { buildSale } from '../../support/factories.ts';
import { acceptedOf, orderOf, problemOf, refusalOf, sessionOf, type Shopper } from '../../support/shopper.ts';
import { signer } from '../../support/signer.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  shopper = await api.shopper();
});

/** Waits until the API has signalled the order's workflow, which no worker runs here. */
function historyOf(orderNo: string): Promise<(string | null | undefined)[]> {
  return waitFor(`the workflow of ${orderNo}`, async () => {
    try {
      const { events } = await api.client.workflow.getHandle(orderNo).fetchHistory();
      const names = events?.map((event) => event.workflowExecutionSignaledEventAttributes?.signalName);
      return names?.some((name) => name !== undefined && name !== null) && names;
    } catch {
      return false;
    }
  });
}

test('cancelling a queued order stores it first, then records the wish and signals the workflow', async () => {
  const orderNo = await shopper.buy(saleId);

  const reply = await shopper.cancel(orderNo);

  expect(reply.status).toBe(202);
  expect(orderOf(reply)).toMatchObject({
    status: 'awaiting_payment',
    closing: true,
    reason: 'shopper_request',
    version: 2,
  });
  expect((await api.stores.orders.read(orderNo))?.state).toMatchObject({ reason: 'shopper_request' });
  expect(await historyOf(orderNo)).toContain('cancelRequested');
});

test('an order that MySQL refuses has failed once its cancel is answered, and its units are free', async () => {
  const { saleId: small } = await api.stores.openSale(buildSale());
  const buyer = await api.shopper();
  const buy = async () =>
    acceptedOf(
      await buyer.placeOrder(
        { saleId: small, items: [{ sku: 'lamp', quantity: 1 }] },
        { 'idempotency-key': 'the-same' },
      ),
    ).orderNo;
  await api.store(await buy());
  // MySQL refuses the second for its key, which it knows of the first.
  await api.stores.redis.del(...(await api.stores.redis.keys(`*idem*${buyer.userId}*`)));
  const orderNo = await buy();

  const reply = await buyer.cancel(orderNo);

  expect(reply.status).toBe(200);
  expect(orderOf(reply)).toMatchObject({ orderNo, status: 'failed', reason: 'duplicate_request' });
  expect((await api.stores.saleStock.read(small))?.skus[0]).toMatchObject({ available: 9, held: 1 });
});

test('an order whose sale was rebuilt before it was stored is held again, and closing', async () => {
  const { saleId: rebuilt } = await api.stores.openSale(buildSale());
  const orderNo = await shopper.buy(rebuilt);
  await api.stores.redis.del(saleKeys({ saleId: rebuilt, shard: 0 }).outbox);
  await rebuildSale(api.stores, rebuilt, { cause: 'lost' });

  const reply = await shopper.cancel(orderNo);

  expect(reply.status).toBe(202);
  expect(orderOf(reply)).toMatchObject({ closing: true, reason: 'shopper_request' });
});

test('a wish to cancel is projected before it is answered, so that no later answer is older', async () => {
  const silentNotifier = {
    paid: () => {},
    cancelRequested: () => {},
    calledOff: () => {},
    retried: () => {},
    drain: async () => {},
  };
  const app = await api.withParts({ notifier: silentNotifier });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  const reply = await buyer.cancel(orderNo);
  expect(await buyer.readOrder(orderNo)).toEqual(orderOf(reply));
});

test('cancelling twice records one wish', async () => {
  const orderNo = await shopper.buy(saleId);

  await shopper.cancel(orderNo);
  const again = await shopper.cancel(orderNo);

  expect(orderOf(again)).toMatchObject({ reason: 'shopper_request', version: 2 });
  expect(await api.countRows('order_events', orderNo)).toBe(2);
});

test('of ten wishes to cancel the first alone is signalled', async () => {
  const signalled: string[] = [];
  const notifier = {
    paid: () => {},
    cancelRequested: ({ order }: WishRecorded) => void signalled.push(order.orderNo),
    calledOff: () => {},
    retried: () => {},
    drain: async () => {},
  };
  const app = await api.withParts({ notifier });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);

  const wishes = await Promise.all(Array.from({ length: 10 }, () => buyer.cancel(orderNo)));

  expect(wishes.map(({ status }) => status)).toEqual(Array.from({ length: 10 }, () => 202));
  expect(signalled).toEqual([orderNo]);
});

test('an order is closing from the wish to cancel until its end, and not before or after', async () => {
  const orderNo = await shopper.buy(saleId);
  expect(await shopper.readOrder(orderNo)).toMatchObject({ closing: false });
  await shopper.cancel(orderNo);
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'awaiting_payment', closing: true });

  await api.stores.orders.cancel(orderNo, 'shopper_request', { force: true });
  await api.forget(orderNo);

  const ended = await shopper.cancel(orderNo);
  expect(ended.status).toBe(200);
  expect(orderOf(ended)).toMatchObject({ status: 'cancelled', reason: 'shopper_request', closing: false });
});

test('while MySQL is away a wish to cancel is not taken', async () => {
  const { pool, ...parts } = await openMysqlAway();
  const app = await api.withParts({ pool, ...parts });
  onTestFinished(async () => {
    await app.close();
    await pool.end();
  });
  const buyer = await app.shopper();
  const orderNo = await buyer.buy(saleId);
  const reply = await buyer.cancel(orderNo);
  expect(refusalOf(reply)).toBe('503 cancel_unavailable');
  expect(reply.headers.get('retry-after')).toBe('1');
  expect(await buyer.readOrder(orderNo)).toMatchObject({ status: 'queued', reason: null });
  expect(refusalOf(await buyer.pay(orderNo))).toBe('503 payment_unavailable');
});

test('an order that is not stored yet cannot be paid yet', async () => {
  const orderNo = await shopper.buy(saleId);

  const reply = await shopper.pay(orderNo);

  expect(refusalOf(reply)).toBe('409 not_yet_payable');
  expect(reply.headers.get('retry-after')).toBe('1');
});

test('a stored order gets a page at the provider, the same one when asked again', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);

  const reply = await shopper.pay(orderNo);
  const again = await shopper.pay(orderNo);

  expect(reply.status).toBe(201);
  const session = sessionOf(reply);
  expect(session.url.startsWith(api.providerUrl)).toBe(true);
  expect(session.expiresAt).toBe((await shopper.readOrder(orderNo)).deadline);
  expect(sessionOf(again)).toEqual(session);
  expect(await api.countRows('payment_sessions', orderNo)).toBe(1);
});

test('two askers at once get the same page', async () => {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);

  const replies = await Promise.all([shopper.pay(orderNo), shopper.pay(orderNo), shopper.pay(orderNo)]);

  expect(new Set(replies.map((reply) => sessionOf(reply).url)).size).toBe(1);
  expect(await api.countRows('payment_sessions', orderNo)).toBe(1);
});

test('an order with a wish to cancel opens no payment page', async () => {
  const orderNo = await shopper.buy(saleId);
  await shopper.cancel(orderNo);

  const reply = await shopper.pay(orderNo);

  expect(refusalOf(reply)).toBe('409 not_payable');
  expect(problemOf(reply)['order']).toMatchObject({ orderNo, reason: 'shopper_request' });
});

test('an order past its deadline opens no payment page', async () => {
  const short = await api.stores.openSale(buildSale({ paymentWindowMs: 1_000 }));
  const orderNo = await shopper.buy(short.saleId);
  await api.store(orderNo);
  const { deadline } = await shopper.readOrder(orderNo);
  await waitFor('the deadline', () => Date.now() > Date.parse(deadline));

  expect(refusalOf(await shopper.pay(orderNo))).toBe('409 not_payable');
});

test('while the provider is away no payment can be started, and the next try opens one session', async () => {
  const away = { ...api.provider, openSession: () => Promise.reject(new Error('connect ECONNREFUSED')) };
  const app = await api.withParts({ provider: away });
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  const asked = await (await app.shopper(shopper.userId)).pay(orderNo);
  expect(refusalOf(asked)).toBe('503 payment_unavailable');

  expect((await shopper.pay(orderNo)).status).toBe(201);
  expect(await api.countRows('payment_sessions', orderNo)).toBe(1);
});

/** Stored, and paid; then its money goes the way that a bank or an operator decides. */
async function buyWithMoney(payment: 'disputed' | 'refunded'): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  await api.stores.pool.query(
    "UPDATE orders SET status = 'paid', payment = ?, version = 3 WHERE order_no = ?",
    [payment, orderNo],
  );
  const state = { status: 'paid', version: 3, payment, reason: null } as const;
  await api.stores.reservations.project(orderNo, state);
  return orderNo;
}

test.each([
  ['disputed', 'already_paid'],
  ['refunded', 'not_payable'],
] as const)(
  'a paid order whose money is %s is shown as that, and takes no other payment',
  async (payment, code) => {
    const orderNo = await buyWithMoney(payment);

    expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'paid', payment, pollAfterMs: null });
    const reply = await shopper.pay(orderNo);
    expect(refusalOf(reply)).toBe(`409 ${code}`);
    expect(problemOf(reply)['order']).toMatchObject({ status: 'paid', payment });
    expect(refusalOf(await shopper.cancel(orderNo))).toBe('409 already_paid');
    expect(await api.countRows('payment_sessions', orderNo)).toBe(0);
  },
);

test('the order is signed into its payment session with what restores it', async () => {
  const signed: unknown[] = [];
  const begin: typeof api.stores.paymentSessions.begin = async (_provider, orderNo, sign) => {
    const stored = await api.stores.orders.read(orderNo);
    signed.push(stored && (await sign(stored.order)));
    return { kind: 'not-stored' };
  };
  const app = await api.withParts({ paymentSessions: { ...api.stores.paymentSessions, begin } });
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  await (await app.shopper(shopper.userId)).pay(orderNo);
  const order = await signer.verify(String(signed[0]));
  expect(order).toMatchObject({ orderNo, userId: shopper.userId, total: 4_900, currency: 'EUR' });
});
