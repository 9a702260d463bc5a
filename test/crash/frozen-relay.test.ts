/** A relay that freezes in the middle of its work on an order, and thaws when all has changed. */

import { expect, test } from 'vitest';
import { runAudit } from '../../src/audit/run-audit.ts';
import { orderOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { awaitStart } from '../support/workflows/start.ts';
import { openCrashWorld } from './crash-world.ts';
import { expectLamps, expectNothingDue, payWhileFrozen } from './shared-steps.ts';

/** What the relay logs when it has judged the order, or could not. */
const DONE = ['orders of an older epoch were reserved again', 'orders were not started; they will be'];
/** A shopper is told of a loss some time after it, while other tests use the processors. */
const TIMEOUT_MS = 200_000;

test(
  'a relay that thaws after its order was told as lost leaves the order lost, whatever its own clock says',
  { timeout: TIMEOUT_MS },
  async ({ onTestFinished }) => {
    const world = await openCrashWorld(
      { part: 'worker', cue: 'about-to-store', freezes: true },
      onTestFinished,
    );
    const shopper = await world.shopper();
    const orderNo = await shopper.buy(world.saleId);
    await world.awaitFreeze();
    await world.stores.redis.flushall();
    await world.takeOver({ claimsLast: true });
    // Until it is decided the answer is an error.
    const isLost = async () => {
      const reply = await shopper.getOrder(orderNo);
      return reply.status === 200 && orderOf(reply).reason === 'lost_before_stored';
    };
    await waitFor('the answer that the order is lost', isLost);

    world.thaw();
    await waitFor('the thawed relay to come back to the order', async () => {
      const isBroughtBack = !(await isLost());
      // Its connections may have ended with the freeze. Then it drops the order, as Redis has no entry of it.
      return isBroughtBack || DONE.some((line) => world.hasLogged(line));
    });

    expect(await shopper.readOrder(orderNo)).toMatchObject({
      status: 'failed',
      reason: 'lost_before_stored',
    });
    await expect(world.client.workflow.getHandle(orderNo).describe()).rejects.toThrow('not found');
    await expectLamps(world, { available: 10, held: 0, sold: 0 });
  },
);

test(
  'a relay that thaws after the order which it has claimed was paid starts its workflow, which ends paid',
  { timeout: TIMEOUT_MS },
  async ({ onTestFinished }) => {
    const world = await openCrashWorld(
      { part: 'worker', cue: 'projected-ahead', freezes: true },
      onTestFinished,
    );
    const { shopper, orderNo } = await payWhileFrozen(world);

    world.thaw();
    await awaitStart(world.client, orderNo);

    const end = { status: 'paid', version: 2, payment: 'applied', reason: null };
    expect(await world.client.workflow.getHandle(orderNo).result()).toEqual(end);
    expect(await shopper.readOrder(orderNo)).toMatchObject(end);
    await expectNothingDue(world, orderNo);
    await expectLamps(world, { available: 9, held: 0, sold: 1 });
    const { findings } = await runAudit(world, world.saleId, [orderNo]);
    expect(findings).toEqual([]);
  },
);
