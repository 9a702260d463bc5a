/** The end of a sale in whose middle Redis lost data: every order is decided, and all stores agree. */

import { expect } from 'vitest';
import { runAudit } from '../../src/audit/run-audit.ts';
import { isFinal } from '../../src/orders/order.ts';
import { ageRebuild } from '../support/ageing.ts';
import type { Checkout } from '../support/checkout.ts';
import { buildOrder } from '../support/factories.ts';
import { select } from '../support/rows.ts';
import { orderOf, pressPay, sessionOf } from '../support/shopper.ts';
import { expectStockEquation } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';
import type { Bought, Crowd } from './crowd.ts';

/** The answer about the order once it is decided: it is payable, or has ended. */
function settled({ orderNo, shopper }: Bought) {
  return waitFor(`order ${orderNo} to be decided`, async () => {
    const reply = await shopper.getOrder(orderNo);
    if (reply.status === 503) return false;
    const order = orderOf(reply);
    return order.status !== 'queued' && order;
  });
}

/** Ends the sale: every order is decided, some are paid and some cancelled; then all stores agree. */
export async function finishSale(checkout: Checkout, saleId: string, crowd: Crowd) {
  expect(await crowd.close()).toEqual([]);
  // Until the rebuild is long past, a lost order is not said to be lost.
  const { pool } = checkout.stores;
  await waitFor('the rebuild to be recorded', async () => (await ageRebuild(pool, saleId)) > 0);
  const orders = await Promise.all(crowd.bought.map(settled));
  const lost = orders.filter(({ reason }) => reason === 'lost_before_stored');
  const open = crowd.bought.filter((_, i) => !isFinal(orders[i]?.status ?? 'queued'));
  expect(open.length + lost.length).toBe(crowd.bought.length);

  const [paid, cancelled] = [open.slice(0, 3), open.slice(-3)];
  for (const { shopper, orderNo } of paid) await pressPay(sessionOf(await shopper.pay(orderNo)).url);
  for (const { shopper, orderNo } of cancelled) await shopper.cancel(orderNo);
  for (const { shopper, orderNo } of paid) await shopper.awaitStatus(orderNo, 'paid');
  for (const { shopper, orderNo } of cancelled) await shopper.awaitStatus(orderNo, 'cancelled');

  // One more that was accepted in the first epoch, and that no store ever knew.
  const unknown = buildOrder({ saleId }).orderNo;
  const accepted = [unknown, ...crowd.bought.map(({ orderNo }) => orderNo)];
  const audit = await runAudit(checkout, saleId, accepted);
  expect(audit.findings).toEqual([]);
  expect(audit.lost.toSorted()).toEqual([unknown, ...lost.map(({ orderNo }) => orderNo)].toSorted());
  const { redis: inRedis, mysql } = await expectStockEquation(checkout.stores, saleId);
  expect(inRedis).toEqual(mysql);
  const parked = await select(checkout.stores.pool, 'SELECT reason FROM parked WHERE resolved_at IS NULL');
  expect(parked).toEqual([]);
  return { lost: lost.length, sold: mysql[0]?.sold, held: mysql[0]?.held, open: open.length };
}

/** Why the sale's data were made again, the earliest first. */
export async function readCauses(checkout: Checkout, saleId: string): Promise<unknown[]> {
  const rows = await select(
    checkout.stores.pool,
    'SELECT reason FROM audit_log WHERE subject = ? ORDER BY entry_id',
    [`sale ${saleId}`],
  );
  return rows.map(({ reason }) => reason);
}
