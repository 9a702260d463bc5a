/**
 * Crash points of a refund in part: its unit is on sale again once, in MySQL first, wherever a worker dies.
 */

import { expect } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import type { OrderStatus } from '../../src/orders/order.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { selectOne } from '../support/rows.ts';
import { acceptedOf, JWT_SECRET, refusalOf, send } from '../support/shopper.ts';
import type { CrashWorld } from './crash-world.ts';
import { expectLamps, payAndSettle, readLamps, type Point } from './shared-steps.ts';

/** Minor units. */
const LAMP_PRICE = 4_900;

export const giveBackPoints: Point[] = [
  {
    name: 'refund in part: its unit is booked as returned, and Redis does not know it',
    doom: { part: 'worker', cue: 'give-back-booked' },
    scenario: refundOneOfTwo,
  },
];

async function refundOneOfTwo(world: CrashWorld): Promise<Record<string, OrderStatus>> {
  const { stores, saleId, client, provider, providerConsole } = world;
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(saleId, 'lamp', 2);
  await payAndSettle(shopper, orderNo);
  await expectLamps(world, { available: 8, held: 0, sold: 2 });
  // No notice of the provider starts the workflow again.
  await providerConsole.setMischief({ drop: 1 });
  await requestRefundOfOne(world, orderNo);
  await world.awaitDeath();
  expect(await readLamps(world)).toEqual({
    redis: { held: 0, sold: 2 },
    mysql: { held: 0, sold: 1 },
  });
  const paid = await selectOne(
    stores.pool,
    'SELECT payment_id, provider_payment_id FROM payments WHERE order_no = ?',
    [orderNo],
  );
  const workflowId = await readRefundWorkflowId(stores.pool, Number(paid['payment_id']));
  const workflow = client.workflow.getHandle(workflowId);
  expect((await workflow.describe()).status.name).toBe('RUNNING');

  await world.takeOver();
  await workflow.result();
  // At once: the reconciliation would mend what the repeated step did twice.
  expect(await readLamps(world)).toEqual({ redis: { held: 0, sold: 1 }, mysql: { held: 0, sold: 1 } });
  await expectLamps(world, { available: 9, held: 0, sold: 1 });
  expect(await provider.listReversals(String(paid['provider_payment_id']))).toMatchObject([
    { kind: 'refund', amount: LAMP_PRICE, status: 'succeeded' },
  ]);
  expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'paid', refunded: LAMP_PRICE });

  // The limit is two, and one came back.
  await providerConsole.setMischief({});
  const buyOne = () => shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
  const again = acceptedOf(await buyOne()).orderNo;
  expect(refusalOf(await buyOne())).toBe('409 limit_reached');
  await payAndSettle(shopper, again);
  await expectLamps(world, { available: 8, held: 0, sold: 2 });
  return { [orderNo]: 'paid', [again]: 'paid' };
}

async function requestRefundOfOne({ apiUrl }: CrashWorld, orderNo: string): Promise<void> {
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
  const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'once' };
  const body = { lines: [{ sku: 'lamp', quantity: 1 }], restock: true };
  const asked = await send(`${apiUrl}/v1/admin/orders/${orderNo}/refunds`, 'POST', { headers, body });
  expect(asked.status).toBe(202);
}
