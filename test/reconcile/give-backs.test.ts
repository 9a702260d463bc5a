/** The walk over money that is back: what it is to give back of its order comes back, and nothing twice. */

import { beforeEach, expect, test } from 'vitest';
import { mendGiveBacks } from '../../src/reconcile/lost-work.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildReversal, buildPayment } from '../support/payment-notices.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { selectOne } from '../support/rows.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeEach(async () => {
  stores = await openTestStores();
});

/** An order that was paid and refunded as a whole, which gives its user's limit back, as MySQL has it. */
async function refundWhole(saleId: string): Promise<number> {
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'started');
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await stores.refunds.recordReversals('sandbox', [buildReversal(payment)]);
  await stores.pool.query('UPDATE payments SET engine_due_at = NULL');
  const sql = 'SELECT payment_id, status, order_no FROM payments WHERE order_no = ?';
  const row = await selectOne(stores.pool, sql, [order.orderNo]);
  expect(row['status']).toBe('refunded');
  return Number(row['payment_id']);
}

/** @param running the payments whose refund workflow goes on */
async function run(running: readonly number[] = []) {
  const ids = new Set(await Promise.all(running.map((id) => readRefundWorkflowId(stores.pool, id))));
  const engine = { isRunning: async (workflowId: string) => ids.has(workflowId) };
  return mendGiveBacks({ ...stores, engine, log: silent }, new AbortController().signal);
}

const giveBack = async (paymentId: number): Promise<void> => {
  for (const given of await stores.refunds.readGiveBacks(paymentId))
    await stores.reservations.giveBack(given);
};

test('what has not come back to Redis makes its refund due, once, and only where no workflow runs', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const [back, lost, slow] = [
    await refundWhole(saleId),
    await refundWhole(saleId),
    await refundWhole(saleId),
  ];
  await giveBack(back);

  expect(await run([slow])).toEqual({ looked: 3, repaired: 1, parked: 0 });
  expect((await stores.refundClaims.take(10)).map(({ paymentId }) => paymentId)).toEqual([lost]);
  expect(await run([slow])).toEqual({ looked: 3, repaired: 0, parked: 0 });

  await giveBack(slow);
  await stores.pool.query('UPDATE payments SET engine_due_at = NULL');
  expect(await run()).toEqual({ looked: 3, repaired: 1, parked: 0 });
});

test('a part whose units have not come back in MySQL either makes its refund due, until they are back in both', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, saleId, { items: [{ sku: 'lamp', quantity: 2 }] });
  await stores.orders.storeOrder(order, 'started');
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await stores.reservations.confirm(order.orderNo);
  await stores.refunds.requestByOrder(
    order.orderNo,
    {
      kind: 'units',
      items: [{ sku: 'lamp', quantity: 1 }],
      amount: undefined,
      charges: false,
      restock: true,
      restoresLimit: undefined,
    },
    { actor: 'olga', reason: null },
    { idempotencyKey: 'part', fingerprint: 'f' },
  );
  await stores.refunds.recordReversals('sandbox', [buildReversal(payment, { amount: 4_900 })]);
  const settle = () => stores.pool.query('UPDATE payments SET engine_due_at = NULL');
  await settle();

  expect(await run()).toEqual({ looked: 1, repaired: 1, parked: 0 });

  const [refund] = await stores.refundClaims.take(10);
  const paymentId = refund?.paymentId ?? 0;
  await stores.refunds.bookGiveBacks(paymentId);
  await settle();
  expect(await run()).toEqual({ looked: 1, repaired: 1, parked: 0 });
  await giveBack(paymentId);
  await settle();
  expect(await run()).toEqual({ looked: 1, repaired: 0, parked: 0 });
  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('a sale that is not in Redis, or no longer, has nothing to give back to', async () => {
  const [gone, over] = [await stores.openSale(buildSale()), await stores.openSale(buildSale())];
  await refundWhole(gone.saleId);
  await refundWhole(over.saleId);
  await stores.forgetting.forgetSale({ saleId: gone.saleId, shard: 0 });
  await stores.pool.query('UPDATE sales SET redis_cleaned_at = NOW(3) WHERE sale_id = ?', [over.saleId]);

  expect(await run()).toEqual({ looked: 2, repaired: 0, parked: 0 });
});
