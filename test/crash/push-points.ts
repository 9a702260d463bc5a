/** Crash points of push: the worker dies between an endpoint and the record of what it was sent. */

import { expect } from 'vitest';
import { ORDER_EVENT_TYPES } from '../../src/events/event.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { openReceiver } from '../support/receiver.ts';
import { waitFor } from '../support/wait.ts';
import type { CrashWorld } from './crash-world.ts';
import { expectLamps, type Point } from './shared-steps.ts';

export const pushPoints: Point[] = [
  {
    name: 'worker: an endpoint has taken an event, and that is not recorded',
    doom: { part: 'worker', cue: 'pushed' },
    scenario: pushWhileDying,
  },
];

async function pushWhileDying(world: CrashWorld) {
  const { stores, saleId } = world;
  const receiver = await openReceiver();
  try {
    const terms = { url: receiver.url, types: ORDER_EVENT_TYPES, saleId: null, description: '' };
    await stores.endpoints.put('office', terms, createSecret(), 'ada');
    const shopper = await world.shopper();
    const orderNo = await shopper.buy(saleId);
    await world.awaitDeath();
    expect(receiver.ids()).toHaveLength(1);

    await world.takeOver();
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await shopper.cancel(orderNo);
    const { version } = await shopper.awaitStatus(orderNo, 'cancelled');
    const all = Array.from({ length: version }, (_, i) => `${orderNo}.${i + 1}`);
    await waitFor('every change of the order', () => receiver.ids().includes(all.at(-1) ?? ''));

    expect(receiver.ids().filter((id) => id.startsWith(orderNo))).toEqual([...all.slice(0, 1), ...all]);
    await expectLamps(world, { available: 10, held: 0, sold: 0 });
    return { [orderNo]: 'cancelled' as const };
  } finally {
    await receiver.close();
  }
}
