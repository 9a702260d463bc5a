/** What the crash points share: their type, and the steps and checks that several of them use. */

import { expect } from 'vitest';
import type { OrderStatus } from '../../src/orders/order.ts';
import { ENGINE_KEY } from '../../src/redis/keys.ts';
import { selectOne } from '../support/rows.ts';
import { pressPay, sessionOf, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';
import { describeIfStarted } from '../support/workflows/start.ts';
import type { CrashWorld, Doom } from './crash-world.ts';

export interface Point {
  name: string;
  doom: Doom;
  /** Its orders end without a workflow. */
  hasNoWorkflow?: true;
  /** @returns the orders that were accepted, and how each must end */
  scenario(world: CrashWorld): Promise<Record<string, OrderStatus>>;
}

export async function payAndSettle(shopper: Shopper, orderNo: string): Promise<void> {
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await payAt(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
}

export async function payAt(url: string): Promise<void> {
  expect((await pressPay(url)).status).toBe(200);
}

/** The relay freezes once it has claimed and shown an order. The order is paid before the relay starts it. */
export async function payWhileFrozen(world: CrashWorld): Promise<{ shopper: Shopper; orderNo: string }> {
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(world.saleId);
  await world.awaitFreeze();
  await payAndSettle(shopper, orderNo);
  await expectLamps(world, { available: 9, held: 0, sold: 1 });
  expect(await describeIfStarted(world.client, orderNo)).toBeUndefined();
  return { shopper, orderNo };
}

/** Waits until both stores have the lamps so. */
export function expectLamps(
  { stores, saleId }: CrashWorld,
  counts: { available: number; held: number; sold: number },
): Promise<void> {
  return expectStock(stores, saleId, { sku: 'lamp', ...counts });
}

/** Lamps as each store has them at this moment. */
export async function readLamps({ stores, saleId }: CrashWorld) {
  const [inRedis, inMysql] = await Promise.all([
    stores.saleStock.read(saleId),
    stores.sales.readStock(saleId),
  ]);
  const [redis, mysql] = [inRedis?.skus[0], inMysql[0]];
  return {
    redis: { held: redis?.held, sold: redis?.sold },
    mysql: { held: mysql?.held, sold: mysql?.sold },
  };
}

export async function expectRelayToTakeOver({ outboxLength }: CrashWorld): Promise<void> {
  await waitFor('every entry to be finished', async () => (await outboxLength()) === 0);
}

/** No process has anything left to do about the order: no start, no signal, no end. */
export async function expectNothingDue({ stores }: CrashWorld, orderNo: string): Promise<void> {
  await waitFor('nothing to be due', async () => {
    const due = await selectOne(
      stores.pool,
      'SELECT engine_due_at, end_due_at, expiring_due_at FROM orders WHERE order_no = ?',
      [orderNo],
    );
    return Object.values(due).every((at) => at === null);
  });
}

const OTHER = 'another-order';
const HOUR_MS = 60 * 60_000;

/** Another order has the only slot of the engine (ENGINE_BUDGET: '1'), until `releaseSlot`. */
export async function takeSlot({ stores }: CrashWorld): Promise<void> {
  await stores.redis.zadd(ENGINE_KEY, Date.now() + HOUR_MS, OTHER);
}

export async function releaseSlot({ stores }: CrashWorld): Promise<void> {
  await stores.redis.zrem(ENGINE_KEY, OTHER);
}
