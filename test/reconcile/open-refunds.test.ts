/** The walk over money that is to go back: a refund whose workflow runs no more is started again. */

import { beforeEach, expect, test } from 'vitest';
import { mendOpenRefunds } from '../../src/reconcile/lost-work.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { readPaymentId, select } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeEach(async () => {
  stores = await openTestStores();
});

/** Money of an order that has ended, and whose refund workflow has begun. */
async function owe(): Promise<number> {
  const { saleId } = await stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await stores.orders.abandon(order, 'unknown_sku');
  const { orderNo, total: amount, currency } = order;
  const payment = { providerPaymentId: `pay-${orderNo}`, orderNo, amount, currency, signedOrder: null };
  await stores.payments.record('sandbox', payment);
  await stores.pool.query('UPDATE payments SET engine_due_at = NULL WHERE order_no = ?', [orderNo]);
  return readPaymentId(stores.pool, orderNo);
}

/** @param gone the payments whose refund workflow has ended, or that Temporal does not know */
async function run(gone: readonly number[]) {
  const idle = new Set(await Promise.all(gone.map((id) => readRefundWorkflowId(stores.pool, id))));
  const engine = { isRunning: async (workflowId: string) => !idle.has(workflowId) };
  return mendOpenRefunds({ ...stores, engine, log: silent }, new AbortController().signal);
}

test('a refund whose workflow runs no more is due again, and one that runs is left alone, however long', async () => {
  const [lost, slow] = [await owe(), await owe()];
  await stores.pool.query('UPDATE payments SET updated_at = NOW(3) - INTERVAL 20 DAY');

  expect(await run([lost])).toEqual({ looked: 2, repaired: 1, parked: 0 });

  expect((await stores.refundClaims.take(10)).map(({ paymentId }) => paymentId)).toEqual([lost]);
  expect(await select(stores.pool, 'SELECT action, subject FROM audit_log')).toEqual([
    { action: 'workflow_lost', subject: `payment ${lost}` },
  ]);
  expect(await run([lost])).toEqual({ looked: 2, repaired: 0, parked: 0 });
  expect(slow).not.toBe(lost);
});

test('money that is back is not looked at', async () => {
  const paymentId = await owe();
  await stores.pool.query("UPDATE payments SET status = 'refunded' WHERE payment_id = ?", [paymentId]);

  expect(await run([paymentId])).toEqual({ looked: 0, repaired: 0, parked: 0 });
});
