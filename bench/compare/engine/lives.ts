/** Whole lives of orders in the engine: started, stored, paid by signal, ended; so many at a time. */

import assert from 'node:assert/strict';
import { ulid } from 'ulidx';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import type { Order } from '../../../src/orders/content.ts';
import { runConcurrently } from '../../shoppers.ts';
import { ENGINE_BUDGET, type EngineWorld } from './engine-world.ts';

export interface LifeSteps {
  start(order: Order): Promise<unknown>;
  /** Returns when the workflow has been signalled. */
  pay(order: Order): Promise<unknown>;
}

/** Resolves when the workflow of an order has taken a step. */
export function createMilestones() {
  const waiting = new Map<string, () => void>();
  return {
    reach: (orderNo: string, step: string) => waiting.get(`${orderNo} ${step}`)?.(),
    async awaitReached(orderNo: string, step: string, work: () => Promise<unknown>): Promise<void> {
      const reached = new Promise<void>((resolve) => waiting.set(`${orderNo} ${step}`, resolve));
      await work();
      await reached;
      waiting.delete(`${orderNo} ${step}`);
    },
  };
}
export type Milestones = ReturnType<typeof createMilestones>;

/** @returns seconds for all lives */
export async function runLives(
  orders: readonly Order[],
  milestones: Milestones,
  { start, pay }: LifeSteps,
): Promise<number> {
  const startedMs = performance.now();
  await runConcurrently(orders.length, ENGINE_BUDGET, async (i) => {
    const order = orders[i];
    assert(order);
    await milestones.awaitReached(order.orderNo, 'payable', () => start(order));
    await milestones.awaitReached(order.orderNo, 'paid', () => pay(order));
  });
  return (performance.now() - startedMs) / 1_000;
}

/** Reserves the orders as the API does. */
export async function reserveOrders(
  { stores: { reservations } }: EngineWorld,
  saleId: string,
  count: number,
): Promise<Order[]> {
  return runConcurrently(count, ENGINE_BUDGET, async (i) => {
    const reserved = await reservations.reserve({
      saleId,
      userId: `bench-${i}`,
      idempotencyKey: ulid(),
      fingerprint: String(i),
      items: [{ sku: 'unit', quantity: 1 }],
      ip: '127.0.0.1',
      userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
    });
    assert(reserved.kind === 'reserved');
    const read = await reservations.readOrder(reserved.orderNo);
    assert(read);
    return read.order;
  });
}

/** What the API commits before it signals. */
export async function receivePayment(
  { stores: { payments } }: { stores: Pick<EngineWorld['stores'], 'payments'> },
  order: Order,
): Promise<void> {
  const { orderNo, total: amount, currency } = order;
  const payment = { providerPaymentId: `pay_${ulid()}`, orderNo, amount, currency, signedOrder: null };
  const notice = { kind: 'payment_succeeded', eventId: `evt_${ulid()}`, payment } as const;
  await payments.receive('sandbox', notice, JSON.stringify(notice));
}

/** @throws unless each of the sale's units is sold in both stores, and each order paid */
export async function expectAllSold({ stores }: EngineWorld, saleId: string, count: number): Promise<void> {
  const inRedis = (await stores.saleStock.read(saleId))?.skus[0];
  assert.deepEqual([inRedis?.held, inRedis?.sold], [0, count]);
  const [inMysql] = await selectRows(
    stores.pool,
    z.object({ paid: z.coerce.number(), held: z.number(), sold: z.number() }),
    `SELECT held, sold, (SELECT COUNT(*) FROM orders WHERE sale_id = skus.sale_id AND status = 'paid') AS paid
     FROM skus WHERE sale_id = ?`,
    [saleId],
  );
  assert.deepEqual(inMysql, { paid: count, held: 0, sold: count });
}
