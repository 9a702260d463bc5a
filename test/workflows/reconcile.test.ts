/** The reconciliation on a real server: its schedule, its steps side by side, and how a run ends. */

import { Client } from '@temporalio/client';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger, NativeConnection, Worker } from '@temporalio/worker';
import { inject, beforeAll, expect, onTestFinished, test } from 'vitest';
import { createReconcileActivities } from '../../src/activities/reconcile.ts';
import { WrongDeploymentError } from '../../src/deployment.ts';
import { ensureSchedule, hasSchedule, type WantedSchedule } from '../../src/engine/reconcile-schedule.ts';
import type { Step } from '../../src/reconcile/walk.ts';
import {
  RECONCILE_SCHEDULE,
  RECONCILE_WORKFLOW,
  PAYMENTS_QUEUE,
  TASK_QUEUE,
  type StepOutcome,
} from '../../src/workflows/contract.ts';
import { waitFor } from '../support/wait.ts';
import { builtWorkflows } from '../support/workflows/built-workflows.ts';
import { installQuietRuntime } from '../support/workflows/native-runtime.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

const done: Step<unknown> = async () => ({ looked: 1, repaired: 0, parked: 0 });

const everyMs = (ms: number, id = '0b1c') => ({
  everyMs: ms,
  taskQueue: TASK_QUEUE,
  deployment: { id, name: 'holdfast' },
});

const scheduleOf = (client: Client, wanted: WantedSchedule) => ({
  exists: () => hasSchedule(client, wanted),
  ensure: () => ensureSchedule(client, wanted),
});

let namespace: string;
beforeAll(async () => {
  namespace = await createNamespace();
});

/** A worker with these steps, until the test ends. */
async function openWorker(steps: Record<string, Step<unknown>>) {
  installQuietRuntime();
  const connection = await NativeConnection.connect({ address: inject('temporalAddress') });
  const client = new Client({ connection, namespace });
  const stopping = new AbortController();
  const activities = createReconcileActivities({
    steps: new Map(Object.entries(steps)),
    deps: undefined,
    stopping: stopping.signal,
  });
  const worker = await Worker.create({
    connection,
    namespace,
    taskQueue: TASK_QUEUE,
    workflowBundle: builtWorkflows,
    activities,
  });
  // It calls the provider, whatever it does here.
  const payments = await Worker.create({ connection, namespace, taskQueue: PAYMENTS_QUEUE, activities });
  const running = Promise.all([worker.run(), payments.run()]);
  onTestFinished(async () => {
    stopping.abort();
    worker.shutdown();
    payments.shutdown();
    await running;
    await connection.close();
  });
  return { client, stopping };
}

async function start(client: Client, workflowId: string) {
  return client.workflow.start<() => Promise<Record<string, StepOutcome>>>(RECONCILE_WORKFLOW, {
    workflowId,
    taskQueue: TASK_QUEUE,
  });
}

test('a step that fails does not keep the others from running, and its failure is in the result', async () => {
  const { client } = await openWorker({
    broken: () => Promise.reject(new Error('the store is away')),
    sound: done,
  });

  const run = await start(client, 'one-fails');

  expect(await run.result()).toEqual({
    broken: { failed: 'the store is away' },
    sound: { looked: 1, repaired: 0, parked: 0 },
  });
});

test('a stop of the worker ends a step that hangs', async () => {
  let hasBegun = false;
  const { client, stopping } = await openWorker({
    'provider-book': () => {
      hasBegun = true;
      return new Promise(() => {});
    },
    sound: done,
  });
  const run = await start(client, 'stopped');
  await waitFor('the step to begin', () => hasBegun);

  stopping.abort();

  expect(await run.result()).toMatchObject({ 'provider-book': { failed: expect.stringMatching(/abort/) } });
});

test('a step that this worker does not have fails alone', async () => {
  const { runReconcileStep } = createReconcileActivities({
    steps: new Map([['known', done]]),
    deps: undefined,
    stopping: new AbortController().signal,
  });
  // The SDK warns of the failure, which is meant.
  const activity = new MockActivityEnvironment({}, { logger: new DefaultLogger('ERROR') });

  await expect(activity.run(runReconcileStep, { name: 'newer' })).rejects.toThrow('no step newer');
  expect(await activity.run(runReconcileStep, { name: 'known' })).toMatchObject({ looked: 1 });
});

test('the schedule runs the steps again and again, and two workers that make it at once make one', async () => {
  let runs = 0;
  const { client } = await openWorker({
    counted: async () => {
      runs += 1;
      return done(undefined, new AbortController().signal);
    },
  });
  const schedule = scheduleOf(client, everyMs(1_000));
  const handle = client.schedule.getHandle(RECONCILE_SCHEDULE);
  onTestFinished(() => handle.delete());

  const outcomes = await Promise.all([schedule.ensure(), scheduleOf(client, everyMs(1_000)).ensure()]);

  expect(outcomes).toContain('created');
  await waitFor('two runs', () => runs > 1);
  expect(await schedule.ensure()).toBe('unchanged');
});

test('another interval changes the schedule, and one that an operator paused stays paused', async () => {
  const { client } = await openWorker({ counted: done });
  const handle = client.schedule.getHandle(RECONCILE_SCHEDULE);
  await scheduleOf(client, everyMs(60_000)).ensure();
  onTestFinished(() => handle.delete());
  await handle.pause('while I look');

  expect(await scheduleOf(client, everyMs(30_000)).ensure()).toBe('updated');

  expect(await handle.describe()).toMatchObject({
    spec: { intervals: [{ every: 30_000 }] },
    state: { paused: true, note: 'while I look' },
  });
  expect(await scheduleOf(client, everyMs(30_000)).ensure()).toBe('unchanged');
});

test('the queue of another deployment is not taken, and the settings that mend it are named', async () => {
  const { client } = await openWorker({ counted: done });
  const handle = client.schedule.getHandle(RECONCILE_SCHEDULE);
  await scheduleOf(client, everyMs(60_000)).ensure();
  onTestFinished(() => handle.delete());
  const theirs = scheduleOf(client, everyMs(30_000, '5e77'));

  await expect(theirs.ensure()).rejects.toThrow(/another deployment, 0b1c.*TEMPORAL_TASK_QUEUE/);
  await expect(theirs.exists()).rejects.toThrow(WrongDeploymentError);

  expect(await handle.describe()).toMatchObject({ spec: { intervals: [{ every: 60_000 }] } });
});

test('of two deployments that come to a new namespace at once one takes the queue', async () => {
  const { client } = await openWorker({ counted: done });
  onTestFinished(() => client.schedule.getHandle(RECONCILE_SCHEDULE).delete());

  const ensured = await Promise.allSettled(
    ['0b1c', '5e77'].map((id) => scheduleOf(client, everyMs(60_000, id)).ensure()),
  );

  expect(ensured.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
});

test('a schedule that was made before it had an owner is taken by the first that finds it', async () => {
  const { client } = await openWorker({ counted: done });
  const handle = client.schedule.getHandle(RECONCILE_SCHEDULE);
  await scheduleOf(client, everyMs(60_000)).ensure();
  onTestFinished(() => handle.delete());
  await handle.update((found) => ({ ...found, action: { ...found.action, memo: {} } }));

  expect(await scheduleOf(client, everyMs(60_000)).ensure()).toBe('updated');
  const theirs = scheduleOf(client, everyMs(60_000, '5e77'));
  await expect(theirs.ensure()).rejects.toThrow(WrongDeploymentError);
});
