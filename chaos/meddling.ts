/**
 * What a person with access to Temporal does to a running sale: ends, deletes
 * and resets workflows of orders and refunds, and signals nonsense to them.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { WorkflowNotFoundError, type Client, type WorkflowHandle } from '@temporalio/client';
import type { PlannedFault } from './faults.ts';
import type { Random } from './random.ts';
import type { System } from './system.ts';

/** Workflows that one fault meddles with. */
const AT_ONCE = 10;
/** Of these, refunds; few run at a time. */
const REFUNDS_AT_ONCE = 3;
/** So many running ones are listed, to choose from. */
const LISTED_MAX = 300;
/** Longer than any fault of Temporal that strikes at the same time. */
const PATIENCE_MS = 60_000;
const PAUSE_MS = 500;
const CALL_TIMEOUT_MS = 5_000;
/** gRPC's codes, where the workflow has ended or is gone, or where it cannot be reset yet. */
const GONE = new Set([3, 5, 9]);

/** What these faults strike. */
export const MEDDLED = 'workflows';

const WAYS = ['terminate', 'cancel', 'delete', 'reset', 'garble'] as const;
type Way = (typeof WAYS)[number];

/** In each round each way once. */
export function meddling({ client }: Pick<System, 'client'>, saleId: string, random: Random): PlannedFault[] {
  return WAYS.map((way) => ({
    name: `${way} workflows`,
    strikes: MEDDLED,
    lastsMs: 0,
    async run() {
      const { orders, refunds } = await persist(() => listRunning(client, saleId));
      const some = random.shuffle(refunds).slice(0, REFUNDS_AT_ONCE);
      const chosen = [...some, ...random.shuffle(orders)].slice(0, AT_ONCE);
      await Promise.all(chosen.map((workflowId, i) => persist(() => meddle(client, workflowId, way, i))));
    },
  }));
}

async function listRunning(client: Client, saleId: string): Promise<{ orders: string[]; refunds: string[] }> {
  const query = `SaleId = "${saleId}" AND ExecutionStatus = "Running"`;
  const orders: string[] = [];
  const refunds: string[] = [];
  for await (const { type, workflowId } of client.workflow.list({ query, pageSize: LISTED_MAX })) {
    (type === 'RefundWorkflow' ? refunds : orders).push(workflowId);
    if (orders.length + refunds.length === LISTED_MAX) break;
  }
  return { orders, refunds };
}

async function meddle(client: Client, workflowId: string, way: Way, turn: number): Promise<void> {
  const handle = client.workflow.getHandle(workflowId);
  const workflowExecution = { workflowId };
  const { namespace } = client.options;
  const act = async (): Promise<unknown> => {
    switch (way) {
      case 'terminate':
        return handle.terminate('the storm terminates it');
      case 'cancel':
        return handle.cancel();
      case 'delete':
        return client.workflowService.deleteWorkflowExecution({ namespace, workflowExecution });
      case 'reset':
        return reset(client, handle);
      case 'garble':
        return garble(client, handle, turn);
      default:
        return way satisfies never;
    }
  };
  try {
    await client.withDeadline(Date.now() + CALL_TIMEOUT_MS, act);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
}

/** To its first task, as if none of its steps had been taken. */
async function reset(client: Client, handle: WorkflowHandle): Promise<void> {
  const { events } = await handle.fetchHistory();
  const first = events?.find(
    ({ workflowTaskCompletedEventAttributes }) => workflowTaskCompletedEventAttributes,
  );
  // One that has not taken its first step has nothing to be set back to.
  if (!first?.eventId) return;
  await client.workflowService.resetWorkflowExecution({
    namespace: client.options.namespace,
    workflowExecution: { workflowId: handle.workflowId },
    reason: 'the storm resets it',
    requestId: randomUUID(),
    workflowTaskFinishEventId: first.eventId,
  });
}

/** Signals that no process of ours sends: other names, no or wrong arguments, bytes that mean nothing. */
async function garble(client: Client, handle: WorkflowHandle, turn: number): Promise<void> {
  const signals: [name: string, ...args: unknown[]][] = [
    ['cancelRequested'],
    ['cancelRequested', null],
    ['cancelRequested', { reason: 'because' }],
    ['cancelRequested', { reason: { deep: [1, 2, 3] } }],
    ['paymentReceived', 'nonsense', { amount: -1 }],
    ['refundUpdated'],
    ['noSuchSignal', { x: 'y'.repeat(1_000) }],
  ];
  const chosen = signals[turn % (signals.length + 1)];
  if (chosen) {
    const [name, ...args] = chosen;
    return handle.signal(name, ...args);
  }
  await client.workflowService.signalWorkflowExecution({
    namespace: client.options.namespace,
    workflowExecution: { workflowId: handle.workflowId },
    signalName: 'cancelRequested',
    input: { payloads: [{ metadata: { encoding: Buffer.from('no/such') }, data: Buffer.from([0, 255, 1]) }] },
  });
}

function isGone(error: unknown): boolean {
  if (error instanceof WorkflowNotFoundError) return true;
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const code = typeof cause === 'object' && cause !== null && 'code' in cause ? cause.code : undefined;
  return typeof code === 'number' && GONE.has(code);
}

/** Temporal may be struck at the same time. */
async function persist<T>(act: () => Promise<T>): Promise<T> {
  const untilMs = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await act();
    } catch (error) {
      if (Date.now() >= untilMs) throw error;
      await delay(PAUSE_MS);
    }
  }
}
