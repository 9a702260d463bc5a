/**
 * Kills a process at each crash point; another takes over,
 * and the audit finds the stores as if nothing had happened.
 */

import { WorkflowNotFoundError } from '@temporalio/common';
import { expect, test } from 'vitest';
import { runAudit } from '../../src/audit/run-audit.ts';
import type { OrderStatus } from '../../src/orders/order.ts';
import { select } from '../support/rows.ts';
import { describeIfStarted } from '../support/workflows/start.ts';
import { openCrashWorld, type CrashWorld } from './crash-world.ts';
import { expectNothingDue, expectRelayToTakeOver, type Point } from './shared-steps.ts';

/** Bounds a hang, while the points that run at once share the processors. */
const POINT_TIMEOUT_MS = 240_000;

export function testPoints(points: readonly Point[]): void {
  for (const { name, doom, scenario, hasNoWorkflow = false } of points) {
    test.concurrent(name, { timeout: POINT_TIMEOUT_MS }, async ({ onTestFinished }) => {
      const world = await openCrashWorld(doom, onTestFinished);
      const outcomes = Object.entries(await scenario(world));

      for (const [orderNo, status] of outcomes) {
        await (hasNoWorkflow
          ? expectNoWorkflow(world, orderNo)
          : expectWorkflowToEnd(world, orderNo, status));
        await expectOneOutcome(world, orderNo, status);
      }
      await expectRelayToTakeOver(world);
      const accepted = outcomes.map(([orderNo]) => orderNo);
      const { orders, findings } = await runAudit(world, world.saleId, accepted);
      expect({ orders, findings }).toEqual({ orders: accepted.length, findings: [] });
      expect(world.deaths()).toBe(1);
    });
  }
}

/** An order that was paid before its workflow began has none. */
async function expectWorkflowToEnd(world: CrashWorld, orderNo: string, status: OrderStatus) {
  const { client } = world;
  await expectNothingDue(world, orderNo);
  if (status === 'paid' && !(await describeIfStarted(client, orderNo))) return;
  expect(await client.workflow.getHandle(orderNo).result()).toMatchObject({ status });
}

async function expectNoWorkflow({ client }: CrashWorld, orderNo: string) {
  await expect(client.workflow.getHandle(orderNo).describe()).rejects.toThrow(WorkflowNotFoundError);
}

/** No other was ever recorded; a paid order is recorded again when its money goes back. */
async function expectOneOutcome({ stores }: CrashWorld, orderNo: string, status: OrderStatus) {
  const ends = await select(
    stores.pool,
    "SELECT DISTINCT status FROM order_events WHERE order_no = ? AND status IN ('paid', 'cancelled', 'failed')",
    [orderNo],
  );
  expect(ends).toEqual([{ status }]);
}
