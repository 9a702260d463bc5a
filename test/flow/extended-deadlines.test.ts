/** Extended deadlines through the whole service: the workflow waits on, also one that begins again. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart } from '../support/workflows/start.ts';

const WINDOW_MS = 9_000;
const OLGA = { actor: 'olga', reason: null };

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout({ reconcileEveryMs: 1_000 });
});
afterAll(async () => {
  await expectCleanAudit(checkout);
  await checkout.close();
});

async function place() {
  const { saleId } = await checkout.stores.openSale(buildSale({ paymentWindowMs: WINDOW_MS }));
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await awaitStart(checkout.client, orderNo);
  return { saleId, shopper, orderNo };
}

async function countTimers(orderNo: string): Promise<number> {
  const { events } = await checkout.client.workflow.getHandle(orderNo).fetchHistory();
  return events?.filter(({ timerStartedEventAttributes }) => timerStartedEventAttributes).length ?? 0;
}

test('an order is paid after the end of its first window, for its workflow has found the later deadline', async () => {
  const { saleId, shopper, orderNo } = await place();
  await checkout.stores.deadlines.extend(orderNo, Date.now() + 60_000, OLGA);
  await waitFor('the workflow to wait on', async () => (await countTimers(orderNo)) === 2);

  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject({ version: 4 });
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('an order whose workflow is terminated after an extension ends at the later deadline, and not before', async () => {
  const { saleId, shopper, orderNo } = await place();
  const untilMs = Date.now() + 2 * WINDOW_MS;
  await checkout.stores.deadlines.extend(orderNo, untilMs, OLGA);
  await checkout.client.workflow.getHandle(orderNo).terminate('by hand');

  expect(await shopper.awaitStatus(orderNo, 'cancelled')).toMatchObject({ reason: 'payment_timeout' });
  const { at } = await selectOne(
    checkout.stores.pool,
    `SELECT occurred_at AS at FROM order_events WHERE order_no = ? AND status = 'cancelled'`,
    [orderNo],
  );
  expect(Number(at)).toBeGreaterThanOrEqual(untilMs);
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});
