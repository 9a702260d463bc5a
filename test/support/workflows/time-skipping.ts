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
import { startTimeSkipping } from '../../../stack/servers/time-skipping.ts';
import { openTestProcesses } from '../test-processes.ts';
import { builtWorkflows } from './built-workflows.ts';
import { installQuietRuntime } from './native-runtime.ts';
import { runningWorkers } from './running-workers.ts';

/** Bounds a hang: a call that was given up and came all the same would leave a workflow to the next test. */
const CALL_TIMEOUT_MS = 60_000;
const KEYWORD = temporal.api.enums.v1.IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD;

/** Call once a file: skipping concerns the whole server, so tests must not run at the same time. */
export async function openTimeSkipping(activities: Activities & Partial<CallOffActivities>) {
  installQuietRuntime();
  const server = await openTestProcesses((crash) => console.error(crash.message));
  const env = await connectTo(await startTimeSkipping(server.processes, findServer()));
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
      await server.close();
    },
  };
}

/** Of the SDK's ways to a server, the public one to a server that runs already skips no time. */
function connectTo(address: string): Promise<TestWorkflowEnvironment> {
  return TestWorkflowEnvironment['create']({
    server: { type: 'existing' },
    supportsTimeSkipping: true,
    namespace: 'default',
    address,
  });
}

function findServer(): string {
  const path = inject('timeSkippingPath');
  if (path === undefined)
    throw new Error("Temporal's time-skipping server is missing: the run's first lines say why.");
  return path;
}
