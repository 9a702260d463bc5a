/** Parked work: what an entry keeps, when the rules may park it again, and what a retry makes due. */

import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { type ParkedFacts, park, parkAnew, unpark } from '../../src/parked/parked.sql.ts';
import { ageClaim } from '../support/ageing.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
  ({ saleId } = await stores.openSale(buildSale({ skus: [{ ...LAMP, total: 1_000 }] })));
});
beforeEach(() => modify(stores.pool, 'DELETE FROM parked'));

const LAMP = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 10, limitPerUser: null };
const OLGA = { actor: 'olga', reason: 'the cause is gone' };
const facts = (step: string): ParkedFacts => ({ cause: 'step_failing', inputs: { step } });

async function only() {
  const { parked_id } = await selectOne(stores.pool, 'SELECT parked_id FROM parked');
  const entry = await stores.parkedWork.read(Number(parked_id));
  if (!entry) throw new Error('not one entry');
  return entry;
}

async function storeOrder(overrides: Partial<Order> = {}): Promise<Order> {
  const order = buildOrder({ saleId, ...overrides });
  await stores.orders.storeOrder({ ...order, idempotencyKey: order.orderNo }, 'started');
  return order;
}

const actionsOn = (subject: string) =>
  select(stores.pool, 'SELECT actor, action, reason FROM audit_log WHERE subject = ?', [subject]);

describe('an entry', () => {
  test('keeps its first reason and facts while it is parked, and counts what comes again', async () => {
    await park(stores.pool, 'order', 'o-1', 'Mark paid: away', facts('Mark paid'));
    const first = await only();
    await park(stores.pool, 'order', 'o-1', 'Release: away', facts('Release'));

    expect(await only()).toEqual({
      ...first,
      reason: 'Mark paid: away',
      cause: 'step_failing',
      inputs: { step: 'Mark paid' },
      lastError: 'Release: away',
      lastAt: expect.any(Date),
      times: 2,
      resolvedAt: null,
    });
  });

  test('begins anew when it is parked again after the rules had settled it', async () => {
    await park(stores.pool, 'order', 'o-1', 'first', facts('Mark paid'));
    await park(stores.pool, 'order', 'o-1', 'first', facts('Mark paid'));
    await unpark(stores.pool, 'order', 'o-1');
    expect(await only()).toMatchObject({ settledBy: 'rules', resolvedAt: expect.any(Date) });
    await park(stores.pool, 'order', 'o-1', 'second', facts('Mark paid'));
    expect(await only()).toMatchObject({ reason: 'second', times: 1, resolvedAt: null, settledBy: null });
  });

  test('that an operator has resolved is not parked again for the same facts', async () => {
    await park(stores.pool, 'payment', 'p-1', 'half came back', facts('a'));
    await stores.parkedWork.resolve((await only()).parkedId, OLGA);

    await park(stores.pool, 'payment', 'p-1', 'half came back', facts('a'));
    await parkAnew(stores.pool, 'payment', 'p-1', 'half came back', facts('a'));
    expect(await only()).toMatchObject({ settledBy: 'operator', resolvedAt: expect.any(Date), times: 3 });
  });

  test.each([park, parkAnew])(
    'that an operator has resolved is parked again for other facts',
    async (again) => {
      await park(stores.pool, 'payment', 'p-1', 'half came back', facts('a'));
      await stores.parkedWork.resolve((await only()).parkedId, OLGA);

      await again(stores.pool, 'payment', 'p-1', 'all came back', facts('b'));
      expect(await only()).toMatchObject({
        reason: 'all came back',
        inputs: { step: 'b' },
        times: 1,
        settledBy: null,
        resolvedAt: null,
      });
    },
  );

  test('that is parked anew gets the new reason and facts at once', async () => {
    await park(stores.pool, 'payment', 'p-1', 'half came back', facts('a'));
    await parkAnew(stores.pool, 'payment', 'p-1', 'all came back', facts('b'));
    expect(await only()).toMatchObject({ reason: 'all came back', inputs: { step: 'b' }, times: 1 });
  });

  test('is bounded, whatever is parked', async () => {
    const long = '\u{1F4A3}'.repeat(600);
    await park(stores.pool, 'payment', 'r'.repeat(600), long, { cause: 'undecided', inputs: { long } });
    const { reference, reason, inputs } = await only();
    expect([reference.length, reason.length <= 500, String(inputs['long']).length <= 255]).toEqual([
      255,
      true,
      true,
    ]);
    await unpark(stores.pool, 'payment', 'r'.repeat(600));
    expect((await only()).settledBy).toBe('rules');
  });

  test('notes each later failure, though not more often than is worth reading', async () => {
    await park(stores.pool, 'order', 'o-1', 'first', facts('Mark paid'));
    await stores.parkedWork.noteFailure('order', 'o-1', 'at once');
    expect(await only()).toMatchObject({ lastError: 'first', times: 1 });

    await modify(stores.pool, 'UPDATE parked SET last_seen_at = NOW(3) - INTERVAL 1 MINUTE');
    await stores.parkedWork.noteFailure('order', 'o-1', 'a minute later');
    await stores.parkedWork.noteFailure('order', 'o-2', 'not parked');
    expect(await only()).toMatchObject({ lastError: 'a minute later', reason: 'first', times: 2 });
  });

  test('of an order ends with the order, in one transaction', async () => {
    const { orderNo } = await storeOrder();
    await stores.orders.park(orderNo, 'Mark paid: away', 'Mark paid');
    await stores.orders.cancel(orderNo, 'payment_timeout', { force: true });
    expect(await only()).toMatchObject({ reference: orderNo, settledBy: 'rules' });
  });
});

describe('a retry', () => {
  test('of an order comes before new orders, and is logged with who and why', async () => {
    await storeOrder();
    const poison = await storeOrder();
    await ageClaim(stores.pool, 'start', 'all', 60 * 60);
    await modify(stores.pool, 'UPDATE orders SET engine_due_at = NULL WHERE order_no = ?', [poison.orderNo]);
    await stores.orders.park(poison.orderNo, 'Mark paid: away', 'Mark paid');

    expect(await stores.parkedWork.retry((await only()).parkedId, OLGA)).toBe('due');
    const [first] = await stores.orderClaims.take(1);
    expect(first?.order.orderNo).toBe(poison.orderNo);
    expect(await actionsOn(poison.orderNo)).toEqual([
      { actor: 'olga', action: 'parked_retried', reason: 'the cause is gone' },
    ]);
    expect((await only()).resolvedAt).toBeNull();
  });

  test('of a refund comes before other refunds', async () => {
    for (const id of ['new', 'poison', 'newer']) {
      await stores.payments.record('sandbox', paymentOf(id, 'no order'));
      await modify(
        stores.pool,
        `UPDATE payments SET status = 'refund_due', engine_due_at = NOW(3) - INTERVAL 1 DAY
         WHERE provider_payment_id = ?`,
        [id],
      );
    }
    await modify(
      stores.pool,
      `UPDATE payments SET engine_due_at = NULL WHERE provider_payment_id = 'poison'`,
    );
    await modify(stores.pool, 'DELETE FROM parked');
    await park(stores.pool, 'refund', 'poison', 'refused', facts('Refund'));

    expect(await stores.parkedWork.retry((await only()).parkedId, OLGA)).toBe('due');
    const { payment_id } = await selectOne(
      stores.pool,
      `SELECT payment_id FROM payments WHERE provider_payment_id = 'poison'`,
    );
    expect((await stores.refundClaims.take(1))[0]?.paymentId).toBe(payment_id);
  });

  test('of a payment that waits for its order has it matched again', async () => {
    const order = buildOrder({ saleId });
    await stores.payments.record('sandbox', paymentOf('early', order.orderNo));
    await modify(
      stores.pool,
      `UPDATE payments SET received_at = NOW(3) - INTERVAL 1 DAY WHERE provider_payment_id = 'early'`,
    );
    await stores.unmatchedPayments.park('early', 'nothing could be decided', 'undecided');
    const listed = async () => (await stores.unmatchedPayments.list(10)).map(({ orderNo }) => orderNo);
    expect(await listed()).not.toContain(order.orderNo);

    expect(await stores.parkedWork.retry((await only()).parkedId, OLGA)).toBe('due');
    expect(await listed()).toContain(order.orderNo);
    expect(await actionsOn(`parked ${(await only()).parkedId}`)).toHaveLength(1);
  });

  test('of a payment that the rules have decided about changes nothing', async () => {
    const order = await storeOrder();
    await stores.payments.record('sandbox', { ...paymentOf('wrong', order.orderNo), amount: 1 });
    const before = await only();
    expect(await stores.parkedWork.retry(before.parkedId, OLGA)).toBe('undecided');
    expect(await only()).toEqual(before);
    expect(await actionsOn(`parked ${before.parkedId}`)).toEqual([]);
  });

  test('leaves to the caller what MySQL alone cannot do', async () => {
    const ended = await storeOrder();
    await stores.orders.cancel(ended.orderNo, 'payment_timeout', { force: true });
    const outcomes: string[] = [];
    for (const [kind, reference] of [
      ['order', ended.orderNo],
      ['order', buildOrder({ saleId }).orderNo],
      ['outbox_entry', `${saleId}.0/1-1`],
    ] as const) {
      await modify(stores.pool, 'DELETE FROM parked');
      await park(stores.pool, kind, reference, 'why', facts('Mark paid'));
      outcomes.push(await stores.parkedWork.retry((await only()).parkedId, OLGA));
    }
    expect(outcomes).toEqual(['ended', 'not-stored', 'outbox']);
    await stores.parkedWork.completeRetry(await only(), OLGA);
    await stores.parkedWork.completeRetry(await only(), OLGA);
    expect(await only()).toMatchObject({ settledBy: 'rules' });
    expect(await actionsOn(`parked ${(await only()).parkedId}`)).toHaveLength(1);
  });

  test('of what is not parked any more, or never was, does nothing', async () => {
    await park(stores.pool, 'order', 'o-1', 'why', facts('Mark paid'));
    await unpark(stores.pool, 'order', 'o-1');
    expect(await stores.parkedWork.retry((await only()).parkedId, OLGA)).toBe('resolved');
    expect(await stores.parkedWork.retry(999_999, OLGA)).toBe('unknown');
  });
});

test('a resolution is logged once, with who and why', async () => {
  await park(stores.pool, 'payment', 'p-1', 'half came back', facts('a'));
  const { parkedId } = await only();
  const outcomes = [];
  for (const id of [parkedId, parkedId, 999_999]) outcomes.push(await stores.parkedWork.resolve(id, OLGA));
  expect(outcomes).toEqual(['resolved', 'resolved-before', 'unknown']);
  expect(await actionsOn(`parked ${parkedId}`)).toEqual([
    { actor: 'olga', action: 'parked_resolved', reason: 'the cause is gone' },
  ]);
});

function paymentOf(providerPaymentId: string, orderNo: string) {
  return { providerPaymentId, orderNo, amount: 4_900, currency: 'EUR', signedOrder: null };
}
