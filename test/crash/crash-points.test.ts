/**
 * Kills a process at each crash point; another takes over,
 * and the audit finds the stores as if nothing had happened.
 */

import { WorkflowNotFoundError } from '@temporalio/common';
import { expect, test } from 'vitest';
import { runAudit } from '../../src/audit/run-audit.ts';
import type { OrderStatus } from '../../src/orders/order.ts';
import { select } from '../support/rows.ts';
import { apiPoints } from './api-points.ts';
import { openCrashWorld, type CrashWorld } from './crash-world.ts';
import { enderPoints } from './ender-points.ts';
import { giveBackPoints } from './give-back-points.ts';
import { pushPoints } from './push-points.ts';
import { refundPoints } from './refund-points.ts';
import { relayPoints } from './relay-points.ts';
import { salePoints } from './sale-points.ts';
import { expectRelayToTakeOver } from './shared-steps.ts';
import { workerPoints } from './worker-points.ts';

/** The slowest waits until a relay counts as dead, while the others use the processors. */
const POINT_TIMEOUT_MS = 400_000;

// The slow ones first: the others fill the time for which they wait.
for (const { name, doom, scenario, hasNoWorkflow = false } of [
  ...relayPoints,
  ...enderPoints,
  ...refundPoints,
  ...giveBackPoints,
  ...workerPoints,
  ...pushPoints,
  ...salePoints,
  ...apiPoints,
]) {
  test.concurrent(name, { timeout: POINT_TIMEOUT_MS }, async ({ onTestFinished }) => {
    const world = await openCrashWorld(doom, onTestFinished);
    const outcomes = Object.entries(await scenario(world));

    for (const [orderNo, status] of outcomes) {
      await (hasNoWorkflow ? expectNoWorkflow(world, orderNo) : expectWorkflowToEnd(world, orderNo, status));
      await expectOneOutcome(world, orderNo, status);
    }
    await expectRelayToTakeOver(world);
    const accepted = outcomes.map(([orderNo]) => orderNo);
    const { orders, findings } = await runAudit(world, world.saleId, accepted);
    expect({ orders, findings }).toEqual({ orders: accepted.length, findings: [] });
    expect(world.deaths()).toBe(1);
  });
}

async function expectWorkflowToEnd({ client }: CrashWorld, orderNo: string, status: OrderStatus) {
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
