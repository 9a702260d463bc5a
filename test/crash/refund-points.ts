/**
 * Crash points of refunds: the payer has the money back once, and no unit is lost, wherever a process dies.
 */

import { expect } from 'vitest';
import { createOrderSigner } from '../../src/providers/signed-order.ts';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import { demoSecrets } from '../../stack/app.ts';
import { ageClaim, agePayment } from '../support/ageing.ts';
import { buildOrder } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { acceptedOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import type { CrashWorld } from './crash-world.ts';
import { expectLamps, payAndSettle, type Point } from './shared-steps.ts';

const HOUR_S = 60 * 60;

interface Paid {
  orderNo: string;
  /** The one that goes back. */
  paymentId: number;
  providerPaymentId: string;
  amount: number;
}

/** From now on the provider sends no callbacks: only a question to it shows what happened there. */
const dropCallbacks = ({ providerConsole }: CrashWorld) => providerConsole.setMischief({ drop: 1 });

async function readMoney({ stores }: CrashWorld, orderNo: string, condition = 'TRUE'): Promise<Paid> {
  const row = await selectOne(
    stores.pool,
    `SELECT payment_id, provider_payment_id, amount FROM payments WHERE order_no = ? AND ${condition}`,
    [orderNo],
  );
  return {
    orderNo,
    paymentId: Number(row['payment_id']),
    providerPaymentId: String(row['provider_payment_id']),
    amount: Number(row['amount']),
  };
}

const refundOf = ({ providerPaymentId }: Paid) =>
  refundWorkflowId({ provider: 'sandbox', providerPaymentId });

const readPayment = ({ stores }: CrashWorld, { paymentId }: Paid) =>
  selectOne(stores.pool, 'SELECT status, engine_due_at FROM payments WHERE payment_id = ?', [paymentId]);

/** The second payment of an order goes back. */
async function payTwice(world: CrashWorld): Promise<Paid> {
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(world.saleId);
  await payAndSettle(shopper, orderNo);
  const { total } = await shopper.readOrder(orderNo);
  await dropCallbacks(world);
  await world.providerConsole.takeStrayPayment({ reference: orderNo, amount: total });
  await world.providerConsole.redeliverPayments(orderNo);
  return waitFor('the second payment to be due', () =>
    readMoney(world, orderNo, "status = 'refund_due'").catch(() => undefined),
  );
}

async function expectOneRefund(world: CrashWorld, paid: Paid): Promise<void> {
  // A step that died is repeated after its 20 seconds.
  await waitFor(
    'the payment to be refunded',
    async () => (await readPayment(world, paid))['status'] === 'refunded',
  );
  await world.client.workflow.getHandle(refundOf(paid)).result();
  const { providerPaymentId, amount } = paid;
  const refunds = await world.provider.listReversals(providerPaymentId);
  expect(refunds).toMatchObject([{ providerPaymentId, amount, status: 'succeeded' }]);
  const { count, returned } = await selectOne(
    world.stores.pool,
    'SELECT COUNT(*) AS count, SUM(amount) AS returned FROM reversals WHERE provider_payment_id = ?',
    [providerPaymentId],
  );
  expect([Number(count), Number(returned)]).toEqual([1, amount]);
}

export const refundPoints: Point[] = [
  {
    name: 'refund: the provider has made it, and it is not recorded',
    doom: { part: 'worker', cue: 'refund-made' },
    async scenario(world) {
      const paid = await payTwice(world);
      await world.awaitDeath();
      expect(await world.provider.listReversals(paid.providerPaymentId)).toHaveLength(1);
      expect(await readPayment(world, paid)).toMatchObject({ status: 'refund_due' });

      await world.takeOver();
      await expectOneRefund(world, paid);
      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [paid.orderNo]: 'paid' };
    },
  },
  {
    name: 'refund: it is recorded, and the limit is not given back',
    doom: { part: 'worker', cue: 'refund-recorded' },
    async scenario(world) {
      const { stores, saleId } = world;
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(saleId, 'lamp', 2);
      await payAndSettle(shopper, orderNo);
      await dropCallbacks(world);
      const paid = await readMoney(world, orderNo);
      const buyAgain = () => shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 2 }] });
      await stores.refunds.request(paid.paymentId, 'tester');
      await world.awaitDeath();
      expect(await readPayment(world, paid)).toMatchObject({ status: 'refunded' });
      expect((await buyAgain()).status).toBe(409);

      await world.takeOver();
      await expectOneRefund(world, paid);
      const refunded = await shopper.awaitStatus(orderNo, 'paid');
      expect(refunded.payment).toBe('refunded');
      await world.providerConsole.setMischief({});
      const again = acceptedOf(await buyAgain()).orderNo;
      await payAndSettle(shopper, again);
      // The first two units have not been returned to the stock.
      await expectLamps(world, { available: 6, held: 0, sold: 4 });
      return { [orderNo]: 'paid', [again]: 'paid' };
    },
  },
  {
    name: 'refund: its workflow is started, and the claim is not completed',
    doom: { part: 'worker', cue: 'refund-started' },
    async scenario(world) {
      const paid = await payTwice(world);
      await world.awaitDeath();
      const workflow = world.client.workflow.getHandle(refundOf(paid));
      const { runId } = await workflow.describe();
      expect((await readPayment(world, paid))['engine_due_at']).not.toBeNull();

      // It must not run out before the workflow has ended, however slow the machine is.
      await ageClaim(world.stores.pool, 'refund', paid.orderNo, -HOUR_S);
      await world.takeOver({ claimsLast: true });
      await workflow.result();
      // The claim runs out, and the refund is started once more.
      await ageClaim(world.stores.pool, 'refund', paid.orderNo);
      await waitFor(
        'the claim to be completed',
        async () => (await readPayment(world, paid))['engine_due_at'] === null,
      );
      expect((await workflow.describe()).runId).not.toBe(runId);
      await expectOneRefund(world, paid);
      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [paid.orderNo]: 'paid' };
    },
  },
  {
    name: 'worker: an order that was lost is reserved again for its money',
    doom: { part: 'worker', cue: 'reserved-again' },
    async scenario(world) {
      const { stores, saleId, providerConsole } = world;
      const shopper = await world.shopper();
      const order = buildOrder({ saleId, userId: shopper.userId });
      const { orderNo } = order;
      const signedOrder = await createOrderSigner([demoSecrets.orderSigning]).sign(order);
      await providerConsole.takeStrayPayment({ reference: orderNo, amount: order.total, signedOrder });
      const paid = await waitFor('the money to be known', () =>
        readMoney(world, orderNo).catch(() => undefined),
      );
      // It is looked into after a minute.
      await agePayment(stores.pool, orderNo, 120);
      await world.awaitDeath();
      expect(await stores.orders.read(orderNo)).toBeUndefined();

      await world.takeOver();
      await shopper.awaitStatus(orderNo, 'paid');
      expect(await readPayment(world, paid)).toMatchObject({ status: 'applied' });
      expect(await world.provider.listReversals(paid.providerPaymentId)).toEqual([]);
      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [orderNo]: 'paid' };
    },
  },
];
