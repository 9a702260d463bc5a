/** What is in Temporal's histories and in its namespace: names by which open workflows go on. */

import {
  ScheduleNotFoundError,
  type Client,
  type ScheduleClient,
  type ScheduleHandle,
} from '@temporalio/client';
import { createActivities } from '../../../src/activities/index.ts';
import { createReconcileActivities } from '../../../src/activities/reconcile.ts';
import { ensureSchedule } from '../../../src/engine/reconcile-schedule.ts';
import { PROVIDER_STEPS, RECONCILE_STEPS, type ReconcileDeps } from '../../../src/reconcile/steps.ts';
import * as contract from '../../../src/workflows/contract.ts';
import * as workflows from '../../../src/workflows/index.ts';
import { SUMMARIES } from '../../../src/workflows/steps.ts';
import { buildParts } from './answering-parts.ts';

const { searchAttributes, paymentReceived, cancelRequested, refundUpdated, statusQuery } = contract;
/** The queue of the one deployment of a namespace, and that of another beside it. */
const QUEUES = ['orders', 'second'];

export async function showEngine() {
  const stopping = new AbortController().signal;
  return {
    workflows: Object.keys(workflows),
    startedAs: [contract.ORDER_WORKFLOW, contract.REFUND_WORKFLOW, contract.RECONCILE_WORKFLOW],
    signals: [paymentReceived, cancelRequested, refundUpdated].map(({ name }) => name),
    queries: [statusQuery.name],
    activities: Object.keys(createActivities(buildParts(uncalled))).toSorted(),
    reconcileActivities: Object.keys(
      createReconcileActivities({
        steps: RECONCILE_STEPS,
        deps: buildParts<ReconcileDeps>(uncalled),
        stopping,
      }),
    ).toSorted(),
    reconcileSteps: [...RECONCILE_STEPS.keys()],
    providerSteps: [...PROVIDER_STEPS],
    summaries: { ...SUMMARIES, cancelOrder: SUMMARIES.cancelOrder({ reason: 'shopper_request' }) },
    searchAttributes: Object.values(searchAttributes).map(({ name, type }) => ({ name, type })),
    refusedAs: contract.ORDER_REFUSED,
    refundWorkflowId: contract.refundWorkflowId({ provider: 'sandbox', providerPaymentId: 'pay-1' }),
    taskQueue: contract.TASK_QUEUE,
    paymentsQueues: QUEUES.map((taskQueue) => `${taskQueue}: ${contract.paymentsQueueOf(taskQueue)}`),
    schedules: await Promise.all(QUEUES.map(showSchedule)),
  };
}

function uncalled(): never {
  throw new Error('only names are read here');
}

/** As it is made where there is none. */
async function showSchedule(taskQueue: string): Promise<unknown> {
  let made: unknown;
  const absent = new ScheduleNotFoundError('there is none', 'reconcile');
  const handle = buildParts<ScheduleHandle>(() => Promise.reject(absent));
  const schedule = buildParts<ScheduleClient>(uncalled, {
    getHandle: () => handle,
    create: async (options) => {
      made = options;
      return handle;
    },
  });
  const client = buildParts<Client>(uncalled, { schedule, withDeadline: (_, work) => work() });
  const deployment = { id: '0b1c', name: 'holdfast' };
  await ensureSchedule(client, { everyMs: 60_000, taskQueue, deployment });
  return made;
}
