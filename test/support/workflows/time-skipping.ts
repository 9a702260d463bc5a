/** Temporal's time-skipping server and a worker with the workflows as they are. */

import { Client } from '@temporalio/client';
import { temporal } from '@temporalio/proto';
import { TestWorkflowEnvironment } from '@temporalio/testing';
import { Worker } from '@temporalio/worker';
import { inject } from 'vitest';
import type { Activities } from '../../../src/activities/index.ts';
import { createOrderEngine } from '../../../src/engine/order-engine.ts';
import { PAYMENTS_QUEUE, TASK_QUEUE } from '../../../src/workflows/contract.ts';
import { builtWorkflows } from './built-workflows.ts';
import { installQuietRuntime } from './native-runtime.ts';
import { runningWorkers } from './running-workers.ts';

const KEYWORD = temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;

/** Call once a file: skipping concerns the whole server, so tests must not run at the same time. */
export async function openTimeSkipping(activities: Activities) {
  installQuietRuntime();
  const path = inject('timeSkippingPath');
  const env = await TestWorkflowEnvironment.createTimeSkipping(
    path === undefined ? {} : { server: { executable: { type: 'existing-path', path } } },
  );
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
    engine: createOrderEngine(new Client({ connection: env.nativeConnection })),
    async close(): Promise<void> {
      worker.shutdown();
      payments.shutdown();
      await running;
      runningWorkers.delete(worker);
      await env.teardown();
    },
  };
}
