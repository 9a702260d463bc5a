/** Extended deadlines through the whole service: the workflow waits on, also one that begins again. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import { endWindow } from '../support/ageing.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart, describeIfStarted } from '../support/workflows/start.ts';

const HOUR_MS = 60 * 60_000;
const OLGA = { actor: 'olga', reason: null };

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout({ reconcileEveryMs: 1_000 });
});
afterAll(() => expectCleanAudit(checkout));

async function place() {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await awaitStart(checkout.client, orderNo);
  return { saleId, shopper, orderNo };
}

/** Of a time or a duration, as Temporal writes both. */
const msOf = (
  at: { seconds?: { toNumber(): number } | null; nanos?: number | null } | null | undefined,
): number => (at?.seconds?.toNumber() ?? 0) * 1_000 + (at?.nanos ?? 0) / 1e6;

/** When the timers of the order's workflow end that it has begun so far (Unix ms). */
async function timersEndAtMs(orderNo: string): Promise<number[]> {
  const { events } = await checkout.client.workflow.getHandle(orderNo).fetchHistory();
  return (events ?? []).flatMap(({ eventTime, timerStartedEventAttributes: timer }) =>
    timer ? [msOf(eventTime) + msOf(timer.startToFireTimeout)] : [],
  );
}

/** @returns when it ends (Unix ms) */
async function awaitTimer(orderNo: string, count: number): Promise<number> {
  const timers = await waitFor(`timer ${count} of the workflow`, async () => {
    const ends = await timersEndAtMs(orderNo);
    return ends.length === count && ends;
  });
  return timers.at(-1) ?? 0;
}

/** The window with which the order began is over; an extension stays. */
const passFirstDeadline = (orderNo: string) =>
  modify(
    checkout.stores.pool,
    'UPDATE orders SET reserved_at = reserved_at - INTERVAL 31 MINUTE WHERE order_no = ?',
    [orderNo],
  );

test('an order whose deadline was extended is paid after its first window, for its workflow waits on', async () => {
  const { saleId, shopper, orderNo } = await place();
  const untilMs = Date.now() + HOUR_MS;
  await checkout.stores.deadlines.extend(orderNo, untilMs, OLGA);
  await passFirstDeadline(orderNo);
  await endWindow(checkout.client, orderNo);
  expect(await awaitTimer(orderNo, 2)).toBeGreaterThanOrEqual(untilMs);

  await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  expect(await shopper.awaitStatus(orderNo, 'paid')).toMatchObject({ version: 3 });
  await expectStock(checkout.stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
});

test('an order whose workflow is terminated after an extension ends at the later deadline, and not before', async () => {
  const { saleId, shopper, orderNo } = await place();
  const { client, stores } = checkout;
  const untilMs = Date.now() + HOUR_MS;
  await stores.deadlines.extend(orderNo, untilMs, OLGA);
  const { runId } = await client.workflow.getHandle(orderNo).describe();
  await client.workflow.getHandle(orderNo).terminate('by hand');
  await waitFor('its workflow to begin again', async () => {
    const begun = await describeIfStarted(client, orderNo);
    return begun !== undefined && begun.runId !== runId;
  });

  // A start of which nobody knows whether it came through is made again, with the first window.
  await awaitTimer(orderNo, 1);
  await endWindow(client, orderNo);
  expect(await awaitTimer(orderNo, 2)).toBeGreaterThanOrEqual(untilMs);
  await modify(
    stores.pool,
    'UPDATE orders SET extended_until = NOW(3) - INTERVAL 1 SECOND WHERE order_no = ?',
    [orderNo],
  );
  await endWindow(client, orderNo);

  expect(await shopper.awaitStatus(orderNo, 'cancelled')).toMatchObject({ reason: 'payment_timeout' });
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
});
