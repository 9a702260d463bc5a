/** Crash points of the end of an order that no workflow has begun: Temporal has no room for it. */

import { expect } from 'vitest';
import { ageDeadline } from '../support/ageing.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import type { CrashWorld } from './crash-world.ts';
import { expectLamps, readLamps, takeSlot, type Point } from './shared-steps.ts';

const env = { ENGINE_BUDGET: '1' };

/** Stored, and no workflow begins: there is no slot for it. */
async function buyUnbegun(world: CrashWorld) {
  const { saleId } = world;
  await takeSlot(world);
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  return { shopper, orderNo };
}

const HELD_IN_REDIS = { redis: { held: 1, sold: 0 }, mysql: { held: 0, sold: 0 } };

export const enderPoints: Point[] = [
  {
    name: 'ender: an order has ended in MySQL, and its stock is still held',
    doom: { part: 'worker', cue: 'ended-unbegun', env },
    hasNoWorkflow: true,
    async scenario(world) {
      const { shopper, orderNo } = await buyUnbegun(world);
      await ageDeadline(world.stores.pool, orderNo);
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
    name: 'ender: the payment page of an order is closed at the provider, and its session not recorded as void',
    doom: { part: 'worker', cue: 'session-void', env },
    hasNoWorkflow: true,
    async scenario(world) {
      const { shopper, orderNo } = await buyUnbegun(world);
      const { url } = sessionOf(await shopper.pay(orderNo));
      await ageDeadline(world.stores.pool, orderNo);
      await world.awaitDeath();
      expect((await world.stores.orders.read(orderNo))?.state).toMatchObject({
        status: 'awaiting_payment',
        reason: 'payment_timeout',
      });
      expect((await pressPay(url)).status).toBe(409);

      await world.takeOver();
      await shopper.awaitStatus(orderNo, 'cancelled');

      expect(await world.stores.paymentSessions.listOpen(orderNo)).toEqual([]);
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
];
