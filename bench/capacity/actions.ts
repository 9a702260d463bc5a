/**
 * The part `actions`: what each fate of an order costs Temporal, counted from the histories of a live run.
 */

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Client } from '@temporalio/client';
import { z } from 'zod';
import { DEFAULT_STORES_PER_SECOND } from '../../src/config.ts';
import { selectRows } from '../../src/mysql/connection.ts';
import { createReservations } from '../../src/orders/reservations.redis.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { refundWorkflowId, RECONCILE_SCHEDULE, RECONCILE_WORKFLOW } from '../../src/workflows/contract.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import type { Figures, OpenPart, Part } from '../compare/part.ts';
import type { CheckoutStack } from '../compare/parts/payable/checkout-stack.ts';
import { untilFollowed } from '../compare/parts/payable/holdfast.ts';
import { seedOutbox } from '../seed-outbox.ts';
import { openRunning, type Shoppers } from './running.ts';

/** To pay; for those who don't, so short that the bench need not wait for long. */
const WINDOW_MS = 30 * 60_000;
const SHORT_WINDOW_MS = 4_000;
const TIMEOUT_MS = 60_000;
/** A burst, of which Temporal begins none, as it is frozen until the end of their window. */
const NEVER_BEGUN = 600;
/** A run of a Temporal Schedule is two actions, on top of its workflow's own. */
const SCHEDULED_RUN_ACTIONS = 2;
const RUNS_AN_HOUR = 60;

export const FATES = {
  paid: 'begun, then paid',
  signalled: 'paid before it was begun',
  cancelled: 'begun, cancelled by its shopper',
  unpaid: 'begun, not paid',
  left: 'begun, not paid, its page left open',
  neverBegun: 'never begun, not paid',
  refund: 'a refund, at once',
  reconcile: 'the reconciliation, an hour',
} as const;

export const actionsPart: Part = {
  name: 'actions',
  title: 'Temporal actions',
  about:
    "What Temporal Cloud bills, by the rules of Temporal's documentation (page Temporal Cloud Actions): a start, a signal, a " +
    'timer, an upsert of search attributes, a try of an activity, all local activities of one workflow task, and three for a run ' +
    'of a schedule. Self-hosted, events and bytes are what the history service writes and keeps.',
  columns: [
    { key: 'actions', label: 'actions', unit: '', digits: 0 },
    { key: 'events', label: 'events', unit: '', digits: 0 },
    { key: 'bytes', label: 'history', unit: 'B', digits: 0 },
  ],
  charted: 'actions',
  targets: [],
  async open(progress): Promise<OpenPart> {
    const { stack, shoppers, close } = await openRunning(progress, { users: 10, connections: 10 });
    const plays = createPlays(stack, shoppers);
    return {
      contestants: Object.entries(plays).map(([fate, measure]) => ({
        name: fate,
        role: 'ours' as const,
        measure,
      })),
      notes: () => [
        'A search attribute that is given at the start is not billed. A query by the Web UI is one action; Holdfast asks none ' +
          'but for `?source=workflow`.',
        `The reconciliation runs each minute by default (\`RECONCILE_EVERY_SECONDS\`): ${RUNS_AN_HOUR} runs.`,
      ],
      close,
    };
  },
};

function createPlays(stack: CheckoutStack, shoppers: Shoppers): Record<string, () => Promise<Figures>> {
  const { client, processes, pool, redis } = stack;
  const { refunds } = mysqlStores(pool);
  const acceptedReply = z.object({ orderNo: z.string() });

  async function place(windowMs: number): Promise<string> {
    const saleId = await stack.openSale(10, windowMs);
    await untilFollowed(stack, saleId);
    return buy(saleId);
  }

  async function buy(saleId: string): Promise<string> {
    const { status, body } = await shoppers.placeOrder(0, saleId);
    assert.equal(status, 202, body);
    return acceptedReply.parse(JSON.parse(body)).orderNo;
  }

  async function placeAndBegin(windowMs: number): Promise<string> {
    const orderNo = await place(windowMs);
    await waitUntil({
      what: 'the workflow of the order to begin',
      timeoutMs: TIMEOUT_MS,
      check: async () => (await readBegun(pool, orderNo)) === 1,
    });
    return orderNo;
  }

  async function paid(): Promise<string> {
    const orderNo = await placeAndBegin(WINDOW_MS);
    await shoppers.pay(0, orderNo);
    return orderNo;
  }

  return {
    [FATES.paid]: async () => countEnded(client, await paid()),

    async [FATES.signalled]() {
      const saleId = await stack.openSale(10, WINDOW_MS);
      await untilFollowed(stack, saleId);
      processes.freeze('worker');
      const orderNo = await buy(saleId);
      await storeAhead(stack, orderNo);
      await shoppers.pay(0, orderNo);
      await waitUntil({
        what: 'the API to signal with start',
        timeoutMs: TIMEOUT_MS,
        check: async () => (await describe(client, orderNo)) !== undefined,
      });
      processes.thaw('worker');
      return countEnded(client, orderNo);
    },

    async [FATES.cancelled]() {
      const orderNo = await placeAndBegin(WINDOW_MS);
      await shoppers.cancel(0, orderNo);
      return countEnded(client, orderNo);
    },

    [FATES.unpaid]: async () => countEnded(client, await placeAndBegin(SHORT_WINDOW_MS)),

    async [FATES.left]() {
      const orderNo = await placeAndBegin(SHORT_WINDOW_MS);
      const { status, body } = await shoppers.openSession(0, orderNo);
      assert.equal(status, 201, body);
      return countEnded(client, orderNo);
    },

    async [FATES.neverBegun]() {
      const saleId = await stack.openSale(NEVER_BEGUN, SHORT_WINDOW_MS);
      await untilFollowed(stack, saleId);
      processes.freeze('temporal');
      await seedOutbox(redis, { saleId, count: NEVER_BEGUN });
      const orderNo = await untilEndedWithoutWorkflow(stack, saleId);
      processes.thaw('temporal');
      assert.equal(
        await describe(client, orderNo),
        undefined,
        'an order that was never begun has no workflow',
      );
      return { actions: 0, events: 0, bytes: 0 };
    },

    async [FATES.refund]() {
      const orderNo = await paid();
      await countEnded(client, orderNo);
      const wish = { kind: 'all', restock: false, restoresLimit: undefined } as const;
      const key = { idempotencyKey: randomUUID(), fingerprint: 'bench' };
      const decision = { actor: 'bench', reason: null };
      const { kind } = await refunds.requestByOrder(orderNo, wish, decision, key);
      assert.equal(kind, 'requested');
      const row = z.object({ provider: z.string(), provider_payment_id: z.string() });
      const sql = 'SELECT provider, provider_payment_id FROM payments WHERE order_no = ?';
      const [payment] = await selectRows(pool, row, sql, [orderNo]);
      assert(payment);
      const { provider, provider_payment_id: providerPaymentId } = payment;
      return countEnded(client, refundWorkflowId({ provider, providerPaymentId }));
    },

    async [FATES.reconcile]() {
      await client.schedule.getHandle(RECONCILE_SCHEDULE).trigger();
      let workflowId: string | undefined;
      await waitUntil({
        what: 'a run of the reconciliation',
        timeoutMs: TIMEOUT_MS,
        check: async () => {
          const query = `WorkflowType = '${RECONCILE_WORKFLOW}'`;
          for await (const run of client.workflow.list({ query })) workflowId = run.workflowId;
          return workflowId !== undefined;
        },
      });
      assert(workflowId !== undefined);
      const { actions = NaN, events = NaN, bytes = NaN } = await countEnded(client, workflowId);
      return {
        actions: RUNS_AN_HOUR * (actions + SCHEDULED_RUN_ACTIONS),
        events: RUNS_AN_HOUR * events,
        bytes: RUNS_AN_HOUR * bytes,
      };
    },
  };
}

/** As a relay does that dies before it begins the workflow. */
async function storeAhead({ pool, redis }: CheckoutStack, orderNo: string): Promise<void> {
  const reservations = createReservations(redis, { storesPerSecond: DEFAULT_STORES_PER_SECOND });
  const reserved = await reservations.readOrder(orderNo);
  assert(reserved);
  await mysqlStores(pool).orders.storeOrders([reserved.order], 'due');
}

async function readBegun(pool: CheckoutStack['pool'], orderNo: string): Promise<number> {
  const row = z.object({ begun: z.coerce.number() });
  const sql = 'SELECT workflow_started_at IS NOT NULL AS begun FROM orders WHERE order_no = ?';
  return (await selectRows(pool, row, sql, [orderNo]))[0]?.begun ?? 0;
}

/** @returns one of those whose workflow nothing has tried to begin */
async function untilEndedWithoutWorkflow({ pool }: CheckoutStack, saleId: string): Promise<string> {
  const row = z.object({ order_no: z.string() });
  const sql = `SELECT order_no FROM orders WHERE sale_id = ? AND status = 'cancelled' AND start_tried_at IS NULL LIMIT 1`;
  let found: string | undefined;
  await waitUntil({
    what: 'an order to end without a workflow',
    timeoutMs: TIMEOUT_MS,
    check: async () => {
      found = (await selectRows(pool, row, sql, [saleId]))[0]?.order_no;
      return found !== undefined;
    },
  });
  assert(found !== undefined);
  return found;
}

/** @returns undefined where Temporal has no such workflow */
function describe(client: Client, workflowId: string) {
  return client.workflow
    .getHandle(workflowId)
    .describe()
    .catch(() => undefined);
}

/** Waits for the workflow's end. */
async function countEnded(client: Client, workflowId: string): Promise<Figures> {
  await waitUntil({
    what: `the workflow ${workflowId} to end`,
    timeoutMs: TIMEOUT_MS,
    check: async () => (await describe(client, workflowId))?.status.name === 'COMPLETED',
  });
  const handle = client.workflow.getHandle(workflowId);
  const [{ events }, { historySize }] = await Promise.all([handle.fetchHistory(), handle.describe()]);
  assert(events && historySize !== undefined);
  return { actions: countActions(events), events: events.length, bytes: historySize };
}

/** What the rules look at of an event, in the form of the SDK as in that of the recorded histories. */
export interface HistoryEvent {
  workflowExecutionStartedEventAttributes?: object | null;
  workflowExecutionSignaledEventAttributes?: object | null;
  upsertWorkflowSearchAttributesEventAttributes?: object | null;
  timerStartedEventAttributes?: object | null;
  activityTaskScheduledEventAttributes?: object | null;
  activityTaskStartedEventAttributes?: { attempt?: number | null } | null;
  markerRecordedEventAttributes?: object | null;
  workflowTaskCompletedEventAttributes?: {
    meteringMetadata?: { nonfirstLocalActivityExecutionAttempts?: number | null } | null;
  } | null;
}

/**
 * The billable actions of one run by the page Temporal Cloud Actions of Temporal's documentation. What leaves
 * no event, such as a query or a heartbeat, is not counted; no order causes any.
 */
export function countActions(events: readonly HistoryEvent[]): number {
  let actions = 0;
  // The markers of a workflow task follow its completion; all of them are one action.
  let hasMarker = false;
  for (const event of events) {
    if (event.workflowExecutionStartedEventAttributes) actions += 1;
    if (event.workflowExecutionSignaledEventAttributes) actions += 1;
    if (event.upsertWorkflowSearchAttributesEventAttributes) actions += 1;
    if (event.timerStartedEventAttributes) actions += 1;
    if (event.activityTaskScheduledEventAttributes) actions += 1;
    // A retry has no event of its own.
    actions += Math.max(0, (event.activityTaskStartedEventAttributes?.attempt ?? 1) - 1);
    actions +=
      event.workflowTaskCompletedEventAttributes?.meteringMetadata?.nonfirstLocalActivityExecutionAttempts ??
      0;
    if (event.workflowTaskCompletedEventAttributes) hasMarker = false;
    if (event.markerRecordedEventAttributes && !hasMarker) [actions, hasMarker] = [actions + 1, true];
  }
  // A signal with start is one action, with or without the start.
  if (events[1]?.workflowExecutionSignaledEventAttributes) actions -= 1;
  return actions;
}
