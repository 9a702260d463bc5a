/** Cues that never come: a test must not pass as though its process had died. */

import { expect, test } from 'vitest';
import { openCrashWorld } from './crash-world.ts';
import { expectLamps, payAndSettle } from './shared-steps.ts';

/** The purchase is over by then, so that the process can only idle. */
const NO_DEATH_WITHIN_MS = 1_000;

test('a process that never comes to its cue lives on, and the wait for its death fails', async ({
  onTestFinished,
}) => {
  // The worker sells the stock. What it sends is no cue of the API.
  const world = await openCrashWorld({ part: 'api', cue: 'stock-sold' }, onTestFinished);
  const shopper = await world.shopper();
  const orderNo = await shopper.buy(world.saleId);
  await payAndSettle(shopper, orderNo);
  await expectLamps(world, { available: 9, held: 0, sold: 1 });

  await expect(world.awaitDeath(NO_DEATH_WITHIN_MS)).rejects.toThrow(
    'waited in vain for the death at stock-sold: {"command":"confirm","moment":"after"}',
  );
  expect(world.deaths()).toBe(0);
});
