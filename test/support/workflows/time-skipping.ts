/** Temporal's time-skipping server and a worker with the workflows as they are. */

import { Client } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { inject } from 'vitest';
import type { CallOffActivities } from '../../../src/activities/call-off.ts';
import type { Activities } from '../../../src/activities/index.ts';
import { createOrderEngine } from '../../../src/engine/order-engine.ts';
import { PAYMENTS_QUEUE, TASK_QUEUE } from '../../../src/workflows/contract.ts';
import { builtWorkflows } from './built-workflows.ts';
import { installQuietRuntime } from './native-runtime.ts';
import { runningWorkers } from './running-workers.ts';

/** Bounds a hang: a call that was given up and came all the same would leave a workflow to the next test. */
const CALL_TIMEOUT_MS = 60_000;
const STARTS_MAX = 5;
const KEYWORD = temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;

/** Call once a file: skipping concerns the whole server, so tests must not run at the same time. */
export async function openTimeSkipping(activities: Activities & Partial<CallOffActivities>) {
  installQuietRuntime();
  const path = inject('timeSkippingPath');
  const env = await startServer(path);
  await env.connection.operatorService.addSearchAttributes({
    namespace: 'default',
    searchAttributes: { OrderStatus: KEYWORD, UserId: KEYWORD, SaleId: KEYWORD },
  });
  const worker = await Worker.create({
    connection: env.nativeConnection,
    taskQueue: TASK_QUEUE,
    workflowBundle: builtWorkflows,
    activities,
    // These orders take no slot of the engine.
    sinks: { engineBudget: { release: { fn: () => undefined } } },
  });
  const payments = await Worker.create({
    connection: env.nativeConnection,
    taskQueue: PAYMENTS_QUEUE,
    activities,
  });
  runningWorkers.add(worker);
  const running = Promise.all([worker.run(), payments.run()]);
  return {
    env,
    engine: createOrderEngine(new Client({ connection: env.nativeConnection }), {
      callTimeoutMs: CALL_TIMEOUT_MS,
    }),
    async close(): Promise<void> {
      worker.shutdown();
      payments.shutdown();
      await running;
      runningWorkers.delete(worker);
      await env.teardown();
    },
  };
}

/** The SDK waits five seconds for its server; Java may need more, and less when it starts once more. */
async function startServer(path: string | undefined): Promise<TestWorkflowEnvironment> {
  const options =
    path === undefined ? {} : { server: { executable: { type: 'existing-path', path } as const } };
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await TestWorkflowEnvironment.createTimeSkipping(options);
    } catch (error) {
      if (attempt === STARTS_MAX) throw error;
    }
  }
}
