/** Crash points of the worker: it dies inside a step, or between two steps that belong together. */

import { expect } from 'vitest';
import type { OrderStatus } from '../../src/orders/order.ts';
import { endWindow } from '../support/ageing.ts';
import { readFeed } from '../support/events.ts';
import { sessionOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import type { CrashWorld } from './crash-world.ts';
import {
  expectLamps,
  expectNothingDue,
  payAndSettle,
  payAt,
  readLamps,
  releaseSlot,
  takeSlot,
  type Point,
} from './shared-steps.ts';

export const workerPoints: Point[] = [
  {
    name: 'worker: persistOrder has committed, for an order that is signalled before it is started',
    doom: { part: 'worker', cue: 'persisted', env: { ENGINE_BUDGET: '1' } },
    scenario: cancelBeforeStart,
  },
  {
    name: 'worker: a void has found that an order is paid, and its stock is still held',
    doom: { part: 'worker', cue: 'paid-by-void' },
    async scenario(world) {
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(world.saleId);
      await shopper.awaitStatus(orderNo, 'awaiting_payment');
      // The notice is lost for good.
      await world.providerConsole.setMischief({ drop: 1 });
      await payAt(sessionOf(await shopper.pay(orderNo)).url);
      await shopper.cancel(orderNo);
      await world.awaitDeath();
      expect((await world.stores.orders.read(orderNo))?.state).toMatchObject({
        status: 'paid',
        reason: null,
      });
      expect(await readLamps(world)).toEqual({ redis: { held: 1, sold: 0 }, mysql: { held: 0, sold: 1 } });

      await world.takeOver();
      await shopper.awaitStatus(orderNo, 'paid');

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      await expectNothingDue(world, orderNo);
      return { [orderNo]: 'paid' };
    },
  },
  {
    name: 'worker: cancelOrder has committed at the end of the window, and the stock is still held',
    doom: { part: 'worker', cue: 'cancelled' },
    async scenario(world) {
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(world.saleId);
      await endWindow(world.client, orderNo);
      await world.awaitDeath();
      expect((await world.stores.orders.read(orderNo))?.state.status).toBe('cancelled');
      expect(await readLamps(world)).toEqual({ redis: { held: 1, sold: 0 }, mysql: { held: 0, sold: 0 } });

      await world.takeOver();
      const cancelled = await shopper.awaitStatus(orderNo, 'cancelled');

      expect(cancelled).toMatchObject({ reason: 'payment_timeout', payment: 'none' });
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'cancelled' };
    },
  },
  {
    name: 'worker: abandonOrder has committed, and the stock is still held',
    doom: { part: 'worker', cue: 'abandoned' },
    async scenario(world) {
      const { stores, saleId } = world;
      const setTotal = (total: number) =>
        stores.pool.query("UPDATE skus SET total = ? WHERE sale_id = ? AND sku = 'lamp'", [total, saleId]);
      const shopper = await world.shopper();
      await setTotal(0);
      const orderNo = await shopper.buy(saleId);
      await world.awaitDeath();
      await setTotal(10);
      expect((await stores.orders.read(orderNo))?.state.status).toBe('failed');
      expect(await readLamps(world)).toEqual({ redis: { held: 1, sold: 0 }, mysql: { held: 0, sold: 0 } });

      await world.takeOver();
      const failed = await shopper.awaitStatus(orderNo, 'failed');

      expect(failed).toMatchObject({ reason: 'stock_exhausted', payment: 'none' });
      await expectLamps(world, { available: 10, held: 0, sold: 0 });
      return { [orderNo]: 'failed' };
    },
  },
  {
    name: 'worker: events are numbered, and that is not committed',
    doom: { part: 'worker', cue: 'numbering-events' },
    async scenario(world) {
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(world.saleId);
      await world.awaitDeath();
      expect(await world.stores.eventRows.readLastSequence()).toBe(0);

      await world.takeOver();
      await payAndSettle(shopper, orderNo);

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      const announced = async () => {
        const events = await readFeed(world.stores);
        return events.some(({ type }) => type === 'order.paid') && events;
      };
      const events = await waitFor('the paid order to be announced', announced);
      expect(events.map(({ id }) => id)).toEqual([1, 2].map((version) => `${orderNo}.${version}`));
      return { [orderNo]: 'paid' };
    },
  },
];

/** The relay has no slot to start the order, so the wish to cancel starts its workflow, which persists it. */
async function cancelBeforeStart(world: CrashWorld): Promise<Record<string, OrderStatus>> {
  const { stores, saleId } = world;
  await takeSlot(world);
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(saleId);
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await shopper.cancel(orderNo);
  await releaseSlot(world);
  await world.awaitDeath();
  expect((await stores.orders.read(orderNo))?.state).toMatchObject({
    status: 'awaiting_payment',
    reason: 'shopper_request',
  });

  await world.takeOver();
  await shopper.awaitStatus(orderNo, 'cancelled');

  await expectLamps(world, { available: 10, held: 0, sold: 0 });
  return { [orderNo]: 'cancelled' };
}
