/** Crash points of the end of an order that no workflow has begun: Temporal has no room for it. */

import { expect } from 'vitest';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import type { CrashWorld } from './crash-world.ts';
import { expectLamps, readLamps, type Point } from './shared-steps.ts';

/** Long enough to open a payment page on a busy machine, and shorter than a slot is leased. */
const WINDOW_MS = 12_000;
const env = { ENGINE_BUDGET: '1' };
const sale = { paymentWindowMs: WINDOW_MS };
/** The claim of closing orders lasts a minute, and another process looks each second. */
const CLOSED_AGAIN_MS = 120_000;

/** Once a third of its window is over, it is not begun any more. */
async function buyUnbegun(world: CrashWorld) {
  const { stores, saleId } = world;
  await stores.budget.acquire(['another-order']);
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  return { shopper, orderNo };
}

const HELD_IN_REDIS = { redis: { held: 1, sold: 0 }, mysql: { held: 0, sold: 0 } };
const RELEASED = { redis: { held: 0, sold: 0 }, mysql: { held: 0, sold: 0 } };

export const enderPoints: Point[] = [
  {
    name: 'ender: an order has ended in MySQL, and its stock is still held',
    doom: { part: 'worker', cue: 'ended-unbegun', env, sale },
    hasNoWorkflow: true,
    async scenario(world) {
      const { shopper, orderNo } = await buyUnbegun(world);
      await world.awaitDeath();
      expect((await world.stores.orders.read(orderNo))?.state.status).toBe('cancelled');
      expect(await readLamps(world)).toEqual(HELD_IN_REDIS);

      await world.takeOver();
      const cancelled = await shopper.awaitStatus(orderNo, 'cancelled');

      expect(cancelled).toMatchObject({ reason: 'payment_timeout', payment: 'none' });
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
  {
    name: 'ender: an order has ended in both stores, and MySQL does not know that Redis has it',
    doom: { part: 'worker', cue: 'end-in-redis', env, sale },
    hasNoWorkflow: true,
    async scenario(world) {
      const { orderNo } = await buyUnbegun(world);
      await world.awaitDeath();
      expect(await readLamps(world)).toEqual(RELEASED);

      await world.takeOver();
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
  {
    name: 'ender: the payment page of an order is closed at the provider, and its session not recorded as void',
    doom: { part: 'worker', cue: 'session-void', env, sale },
    hasNoWorkflow: true,
    async scenario(world) {
      const { shopper, orderNo } = await buyUnbegun(world);
      const { url } = sessionOf(await shopper.pay(orderNo));
      await world.awaitDeath();
      expect((await world.stores.orders.read(orderNo))?.state).toMatchObject({
        status: 'awaiting_payment',
        reason: 'payment_timeout',
      });
      expect((await pressPay(url)).status).toBe(409);

      await world.takeOver();
      await waitFor(
        'the order to end',
        async () => (await shopper.readOrder(orderNo)).status === 'cancelled',
        CLOSED_AGAIN_MS,
      );

      expect(await world.stores.paymentSessions.listOpen(orderNo)).toEqual([]);
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
];
