/**
 * Records the histories of branches that have none yet, on the real Temporal server with the code as it is:
 *
 *     RECORD_HISTORIES=1 npm test -- test/replay
 *
 * A history stands for the orders that are open in production while a new
 * version is rolled out, so keep it as long as such orders can exist: a change
 * that breaks it needs `patched`. To record one anew, delete its file first.
 */

import { existsSync, writeFileSync } from 'node:fs';
import { Client } from '@temporalio/client';
import { NativeConnection, Worker, type WorkflowBundleOption } from '@temporalio/worker';
import { inject } from 'vitest';
import { createReconcileActivities } from '../../src/activities/reconcile.ts';
import { createOrderEngine } from '../../src/engine/order-engine.ts';
import type { Step } from '../../src/reconcile/walk.ts';
import {
  callOffWorkflowId,
  RECONCILE_WORKFLOW,
  REFUND_WORKFLOW,
  refundWorkflowId,
  PAYMENTS_QUEUE,
  TASK_QUEUE,
} from '../../src/workflows/contract.ts';
import { buildOrder, buildRefund } from '../support/factories.ts';
import { waitFor } from '../support/wait.ts';
import { createCallOffBook, openCallOffBooks, type CallOffBook } from '../support/workflows/call-off-book.ts';
import { createOrderBook, type OrderBook } from '../support/workflows/order-book.ts';
import { openBooks } from '../support/workflows/order-world.ts';
import { createRefundBook, type RefundBook } from '../support/workflows/refund-book.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { branches } from './branches.ts';
import { callOffBranches } from './call-off-branches.ts';
import { formatHistory } from './history-json.ts';
import { reconcileBranches } from './reconcile-branches.ts';
import { refundBranches } from './refund-branches.ts';

/** In place of process ids and host names. */
const IDENTITY = 'recorder';
/**
 * Failing steps are tried again after this time, so that a recording takes seconds; histories look the same.
 */
const RETRY_DELAY_MS = 20;

export function historyFile(name: string): URL {
  return new URL(`histories/${name}.json`, import.meta.url);
}

const isMissing = (name: string): boolean => !existsSync(historyFile(name));

export async function recordMissing(workflowBundle: WorkflowBundleOption): Promise<void> {
  const missing = Object.keys(branches).filter(isMissing);
  const missingRefunds = Object.keys(refundBranches).filter(isMissing);
  const missingRuns = Object.keys(reconcileBranches).filter(isMissing);
  const missingCallOffs = Object.keys(callOffBranches).filter(isMissing);
  const all = [missing, missingRefunds, missingRuns, missingCallOffs];
  if (all.every((names) => names.length === 0)) return;
  const namespace = await createNamespace();
  const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
  const books = new Map<string, OrderBook>();
  const refundBooks = new Map<number, RefundBook>();
  const callOffBooks = new Map<string, CallOffBook>();
  const steps = new Map<string, Step<unknown>>();
  const activities = {
    ...openBooks(books, refundBooks),
    ...openCallOffBooks(callOffBooks),
    ...createReconcileActivities({ steps, deps: undefined, stopping: new AbortController().signal }),
  };
  const shared = { connection, namespace, identity: IDENTITY, activities };
  const payments = await Worker.create({ ...shared, taskQueue: PAYMENTS_QUEUE });
  const worker = await Worker.create({
    ...shared,
    taskQueue: TASK_QUEUE,
    workflowBundle,
    // These orders take no slot of the engine.
    sinks: { engineBudget: { release: { fn: () => undefined } } },
  });
  const client = new Client({ connection, namespace, identity: IDENTITY });
  const play = async () => {
    for (const name of missing) writeFileSync(historyFile(name), await record(client, books, name));
    for (const name of missingRefunds) {
      writeFileSync(historyFile(name), await recordRefund(client, refundBooks, name));
    }
    for (const name of missingCallOffs)
      writeFileSync(historyFile(name), await recordCallOff(client, callOffBooks, name));
    for (const name of missingRuns) writeFileSync(historyFile(name), await recordRun(client, steps, name));
  };
  await payments.runUntil(worker.runUntil(play));
  await connection.close();
}

async function record(client: Client, books: Map<string, OrderBook>, name: string): Promise<string> {
  const branch = branches[name];
  if (!branch) throw new Error(`no branch ${name}`);
  const { paymentWindowMs, settlesStock = false } = branch;
  const order = buildOrder({
    saleId: 'replay',
    ...(paymentWindowMs === undefined ? {} : { paymentWindowMs }),
  });
  const book = createOrderBook(order, { retryDelayMs: RETRY_DELAY_MS, settlesStock });
  books.set(order.orderNo, book);
  const engine = createOrderEngine(client);
  const handle = client.workflow.getHandle(order.orderNo);
  await branch.play({
    order,
    book,
    engine,
    signalPaid: () => engine.signalEnded(order.orderNo, { status: 'paid' }),
    async untilPayable() {
      await engine.start(order);
      await waitFor('the order to be payable', () => book.state()?.status === 'awaiting_payment');
    },
    async cancelWorkflow() {
      await handle.cancel();
    },
    async loseWorkflow() {
      await handle.terminate('lost');
    },
  });
  // Of an order that began again the last run, which has its own start and its own end.
  await handle.result();
  return formatHistory(await handle.fetchHistory());
}

async function recordRefund(client: Client, books: Map<number, RefundBook>, name: string): Promise<string> {
  const play = refundBranches[name];
  if (!play) throw new Error(`no branch ${name}`);
  const paymentId = books.size + 1;
  const refund = buildRefund({ paymentId });
  const book = createRefundBook({ retryDelayMs: RETRY_DELAY_MS });
  books.set(paymentId, book);
  const engine = createOrderEngine(client);
  const workflowId = refundWorkflowId(refund);
  const handle = client.workflow.getHandle(workflowId);
  let firstRunId: string | undefined;
  await play({
    book,
    start: () => engine.startRefund(refund),
    goOn: (pending) =>
      client.workflow.start(REFUND_WORKFLOW, {
        workflowId,
        taskQueue: TASK_QUEUE,
        args: [{ paymentId, pending }],
      }),
    async untilPending() {
      await waitFor('the timer', async () => {
        const { events } = await handle.fetchHistory();
        return events?.some(({ timerStartedEventAttributes }) => timerStartedEventAttributes);
      });
    },
    async untilRefused() {
      await waitFor('the operator to see it', () => book.isParked());
    },
    async untilContinued() {
      const { runId } = await handle.describe();
      await waitFor('the run to continue as new', async () => {
        await engine.startRefund(refund);
        return (await handle.describe()).runId !== runId;
      });
      firstRunId = runId;
    },
    async cancelWorkflow() {
      await handle.cancel();
    },
  });
  await handle.result();
  const isFirst = name === 'refund-continues-as-new';
  const recorded = isFirst ? client.workflow.getHandle(workflowId, firstRunId) : handle;
  return formatHistory(await recorded.fetchHistory());
}

async function recordCallOff(client: Client, books: Map<string, CallOffBook>, name: string): Promise<string> {
  const branch = callOffBranches[name];
  if (!branch) throw new Error(`no branch ${name}`);
  const jobId = `job-${books.size + 1}`;
  books.set(jobId, createCallOffBook(branch.pages, branch.failures));
  const terms = { saleId: 'replay', sku: '', restock: false, actor: 'grace', reason: null };
  await createOrderEngine(client).startCallOff({ jobId, ...terms });
  const workflowId = callOffWorkflowId({ jobId });
  const handle = client.workflow.getHandle(workflowId);
  const { runId } = await handle.describe();
  await handle.result();
  const isFirst = name === 'call-off-continues-as-new';
  const recorded = isFirst ? client.workflow.getHandle(workflowId, runId) : handle;
  return formatHistory(await recorded.fetchHistory());
}

/** @param steps of the worker, for one run at a time */
async function recordRun(client: Client, steps: Map<string, Step<unknown>>, name: string): Promise<string> {
  steps.clear();
  for (const [step, run] of Object.entries(reconcileBranches[name] ?? {})) steps.set(step, run);
  const handle = await client.workflow.start(RECONCILE_WORKFLOW, { workflowId: name, taskQueue: TASK_QUEUE });
  await handle.result();
  return formatHistory(await handle.fetchHistory());
}
