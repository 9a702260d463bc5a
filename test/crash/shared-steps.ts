/** What the crash points share: their type, and the steps and checks that several of them use. */

import { expect } from 'vitest';
import type { OrderStatus } from '../../src/orders/order.ts';
import { pressPay, sessionOf, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';
import type { CrashWorld, Doom } from './crash-world.ts';

export interface Point {
  name: string;
  doom: Doom;
  /** Its orders end without a workflow. */
  hasNoWorkflow?: true;
  /** @returns the orders that were accepted, and how each must end */
  scenario(world: CrashWorld): Promise<Record<string, OrderStatus>>;
}

/** A relay counts as dead after 30 seconds, and the others look for dead ones every ten. */
const RELAY_TAKES_OVER_MS = 90_000;

export async function payAndSettle(shopper: Shopper, orderNo: string): Promise<void> {
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await payAt(sessionOf(await shopper.pay(orderNo)).url);
  await shopper.awaitStatus(orderNo, 'paid');
}

export async function payAt(url: string): Promise<void> {
  expect((await pressPay(url)).status).toBe(200);
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
  await waitFor('every entry to be finished', async () => (await outboxLength()) === 0, RELAY_TAKES_OVER_MS);
}
