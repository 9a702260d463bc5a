/** Crash points of the relay. Another takes its entries over once it counts as dead. */

import { expect } from 'vitest';
import { ageClaim } from '../support/ageing.ts';
import { countStoredAhead } from '../support/count-stored-ahead.ts';
import { waitFor } from '../support/wait.ts';
import {
  expectLamps,
  expectNothingDue,
  expectRelayToTakeOver,
  payAndSettle,
  payWhileFrozen,
  releaseSlot,
  takeSlot,
  type Point,
} from './shared-steps.ts';

export const relayPoints: Point[] = [
  {
    name: 'relay: an outbox entry is read, and nothing done about it',
    doom: { part: 'worker', cue: 'outbox-read' },
    async scenario(world) {
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(world.saleId);
      await world.awaitDeath();
      expect(await world.stores.orders.read(orderNo)).toBeUndefined();
      await expect(world.client.workflow.getHandle(orderNo).describe()).rejects.toThrow('not found');

      await world.takeOver();
      await expectRelayToTakeOver(world);
      await payAndSettle(shopper, orderNo);

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [orderNo]: 'paid' };
    },
  },
  {
    name: 'relay: orders are stored ahead, and neither projected nor acknowledged',
    doom: { part: 'worker', cue: 'stored', env: { ENGINE_BUDGET: '1' } },
    async scenario(world) {
      const { stores, saleId } = world;
      await takeSlot(world);
      const [payer, canceller, changer] = [
        await world.shopper(),
        await world.shopper(),
        await world.shopper(),
      ];
      const [paid, cancelled, changed] = await Promise.all([
        payer.buy(saleId),
        canceller.buy(saleId),
        changer.buy(saleId, 'mug'),
      ]);
      await world.awaitDeath();
      expect((await countStoredAhead(stores.pool)).get(saleId)).toBeGreaterThan(0);
      expect(await world.outboxLength()).toBe(3);

      await releaseSlot(world);
      await world.takeOver();
      await canceller.cancel(cancelled);
      await expectRelayToTakeOver(world);
      await payAndSettle(payer, paid);
      await changer.cancel(changed);
      await canceller.awaitStatus(cancelled, 'cancelled');
      await changer.awaitStatus(changed, 'cancelled');

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [paid]: 'paid', [cancelled]: 'cancelled', [changed]: 'cancelled' };
    },
  },
  {
    name: 'relay: orders are stored ahead and projected, and their entries not acknowledged',
    doom: { part: 'worker', cue: 'projected-ahead', env: { ENGINE_BUDGET: '1' } },
    async scenario(world) {
      const { stores, saleId } = world;
      await takeSlot(world);
      const [payer, canceller] = [await world.shopper(), await world.shopper()];
      const [paid, cancelled] = await Promise.all([payer.buy(saleId), canceller.buy(saleId)]);
      await world.awaitDeath();
      const projected = await Promise.all([paid, cancelled].map((no) => stores.reservations.readOrder(no)));
      expect(projected.map((order) => order?.state.status)).toContain('awaiting_payment');
      expect(await world.outboxLength()).toBe(2);

      await releaseSlot(world);
      await world.takeOver();
      await canceller.cancel(cancelled);
      await expectRelayToTakeOver(world);
      await payAndSettle(payer, paid);
      await canceller.awaitStatus(cancelled, 'cancelled');

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [paid]: 'paid', [cancelled]: 'cancelled' };
    },
  },
  {
    name: 'relay: a page is about to be committed',
    doom: { part: 'worker', cue: 'storing' },
    async scenario(world) {
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(world.saleId);
      await world.awaitDeath();
      expect(await world.stores.orders.read(orderNo)).toBeUndefined();

      await world.takeOver();
      await expectRelayToTakeOver(world);
      await payAndSettle(shopper, orderNo);

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [orderNo]: 'paid' };
    },
  },
  {
    name: 'relay: a workflow is started, and its claim not ended',
    doom: { part: 'worker', cue: 'order-started' },
    async scenario(world) {
      const shopper = await world.shopper();
      const orderNo = await shopper.buy(world.saleId);
      await world.awaitDeath();
      const { status } = await world.client.workflow.getHandle(orderNo).describe();
      expect([status.name, await world.outboxLength()]).toEqual(['RUNNING', 0]);
      expect((await countStoredAhead(world.stores.pool)).get(world.saleId)).toBe(1);

      await world.takeOver({ claimsLast: true });
      await payAndSettle(shopper, orderNo);
      // When the claim runs out the order has ended: that must change nothing.
      await ageClaim(world.stores.pool, 'start', orderNo);
      await waitFor(
        'the claim to be ended',
        async () => (await countStoredAhead(world.stores.pool)).size === 0,
      );

      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [orderNo]: 'paid' };
    },
  },
  {
    name: 'relay: an order is paid after its start was claimed, its workflow is started, and its claim not ended',
    doom: { part: 'worker', cue: 'projected-ahead', freezes: true, diesAt: 'order-started' },
    async scenario(world) {
      const { shopper, orderNo } = await payWhileFrozen(world);
      world.thaw();
      await world.awaitDeath();
      const { status } = await world.client.workflow.getHandle(orderNo).describe();
      expect(status.name).toBe('RUNNING');

      await world.takeOver();
      await expectNothingDue(world, orderNo);

      expect(await shopper.readOrder(orderNo)).toMatchObject({ status: 'paid' });
      await expectLamps(world, { available: 9, held: 0, sold: 1 });
      return { [orderNo]: 'paid' };
    },
  },
];
