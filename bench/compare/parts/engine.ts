/** The part `engine` of the comparison: whole lives of orders per second. */

import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger, type WorkflowBundleOption } from '@temporalio/worker';
import { createActivities, type Activities } from '../../../src/activities/index.ts';
import type { OrderEngine } from '../../../src/engine/order-engine.ts';
import type { Order } from '../../../src/orders/content.ts';
import type { OrderState } from '../../../src/orders/order.ts';
import { openProvider } from '../../../src/providers/open.ts';
import { TASK_QUEUE } from '../../../src/workflows/contract.ts';
import { demoSecrets } from '../../../stack/app.ts';
import { repoDir } from '../../../stack/install/repo-dir.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { bareSignal, type BareActivities, type BareWorkflow } from '../engine/bare-workflows.ts';
import { openEngineWorld, type EngineWorld, type RunningWorker } from '../engine/engine-world.ts';
import {
  createMilestones,
  expectAllSold,
  receivePayment,
  reserveOrders,
  runLives,
  type LifeSteps,
  type Milestones,
} from '../engine/lives.ts';
import type { Contestant, Figures, Part } from '../part.ts';

const STORED: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };

/** Some seconds at the pace of two cores. */
const LIVES = 300;
/** Not measured: code is compiled and connections are opened meanwhile. */
const WARM_UP_LIVES = 60;
const END_TIMEOUT_MS = 30_000;

const OURS = 'Holdfast';

export const enginePart: Part = {
  name: 'engine',
  title: 'The engine: whole lives of orders',
  about:
    'An order is stored and started, waits on its timer, is paid by signal and ends; as many at a time as the engine budget has slots.',
  columns: [
    { key: 'lives', label: 'lives', unit: '/s', digits: 1 },
    { key: 'worker', label: 'CPU of the worker', unit: 'ms', digits: 1 },
    { key: 'temporal', label: 'of Temporal', unit: 'ms', digits: 1 },
    { key: 'mysql', label: 'of MySQL', unit: 'ms', digits: 1 },
    { key: 'redis', label: 'of Redis', unit: 'ms', digits: 1 },
  ],
  charted: 'lives',
  targets: [
    {
      text: 'engine ≥ 0.95 of the reference',
      figure: 'lives',
      of: OURS,
      against: ['reference'],
      atLeast: 0.95,
    },
    { text: 'engine ≥ 0.75 of the ceiling', figure: 'lives', of: OURS, against: ['bare'], atLeast: 0.75 },
  ],
  async open(progress) {
    const world = await openEngineWorld(progress);
    const bareBundle = await bundleWorkflowCode({
      workflowsPath: join(repoDir, 'bench', 'compare', 'engine', 'bare-workflows.ts'),
      logger: new DefaultLogger('WARN'),
    });
    // The first would pay for the compiling of what all of them use.
    await measureOurs(world, { storedFirst: false });
    return {
      contestants: [
        { name: OURS, role: 'ours', measure: () => measureOurs(world, { storedFirst: true }) },
        {
          name: 'Holdfast, stored by its workflow',
          role: 'variant',
          measure: () => measureOurs(world, { storedFirst: false }),
        },
        { name: 'reference', role: 'reference', measure: () => measureReference(world, bareBundle) },
        { name: 'bare', role: 'limit', measure: () => measureBare(world, bareBundle) },
      ] satisfies Contestant[],
      close: () => world.close(),
    };
  },
};

/** @param storedFirst as the relay does it, an order at a time; otherwise as where MySQL did not take it */
function measureOurs(world: EngineWorld, { storedFirst }: { storedFirst: boolean }): Promise<Figures> {
  const activities = createOurActivities(world);
  const workflowBundle = { codePath: join(repoDir, 'dist', 'workflow-bundle.js') };
  return measure(world, {
    workflowBundle,
    activities: (milestones) => ({
      ...activities,
      async persistOrder(input: { order: Order }) {
        const state = await activities.persistOrder(input);
        milestones.reach(input.order.orderNo, 'payable');
        return state;
      },
      async markPaid(input: { orderNo: string }) {
        const state = await activities.markPaid(input);
        milestones.reach(input.orderNo, 'paid');
        return state;
      },
    }),
    steps: ({ engine }) => ({
      start: (order) => (storedFirst ? storeAndStart(world, engine, order) : engine.start(order)),
      async pay(order) {
        await receivePayment(world, order);
        await engine.signalEnded(order.orderNo, { status: 'paid' });
      },
    }),
    isReal: true,
  });
}

async function storeAndStart(
  { stores: { orders, orderClaims, reservations } }: EngineWorld,
  engine: OrderEngine,
  order: Order,
): Promise<void> {
  await orders.storeOrder(order, 'claimed');
  await reservations.project(order.orderNo, STORED);
  await engine.start(order, STORED);
  await orderClaims.complete([{ order, state: STORED }]);
}

/** The same statements and scripts, in the fewest steps. */
function measureReference(world: EngineWorld, workflowBundle: WorkflowBundleOption): Promise<Figures> {
  const activities = createOurActivities(world);
  return measure(world, {
    workflowBundle,
    activities: (milestones) => ({
      ...activities,
      async first(order) {
        await activities.persistOrder({ order });
        milestones.reach(order.orderNo, 'payable');
      },
      async last({ orderNo }) {
        await activities.markPaid({ orderNo });
        milestones.reach(orderNo, 'paid');
      },
    }),
    steps: (worker) => ({
      start: bareStarter(worker),
      async pay(order) {
        await receivePayment(world, order);
        await worker.client.workflow.getHandle(order.orderNo).signal(bareSignal);
      },
    }),
    isReal: true,
  });
}

function measureBare(world: EngineWorld, workflowBundle: WorkflowBundleOption): Promise<Figures> {
  const activities = createOurActivities(world);
  return measure(world, {
    workflowBundle,
    activities: (milestones) => ({
      ...activities,
      first: async ({ orderNo }) => milestones.reach(orderNo, 'payable'),
      last: async ({ orderNo }) => milestones.reach(orderNo, 'paid'),
    }),
    steps: (worker) => ({
      start: bareStarter(worker),
      pay: (order) => worker.client.workflow.getHandle(order.orderNo).signal(bareSignal),
    }),
    isReal: false,
  });
}

interface Setup {
  workflowBundle: WorkflowBundleOption;
  activities: (milestones: Milestones) => Activities & Partial<BareActivities>;
  steps: (worker: RunningWorker) => LifeSteps;
  /** The orders are in the stores. */
  isReal: boolean;
}

async function measure(
  world: EngineWorld,
  { workflowBundle, activities, steps, isReal }: Setup,
): Promise<Figures> {
  const milestones = createMilestones();
  const worker = await world.startWorker({
    workflowBundle,
    activities: activities(milestones),
    releaseSlot: (orderNo) => milestones.reach(orderNo, 'payable'),
  });
  try {
    const count = WARM_UP_LIVES + LIVES;
    const saleId = await world.openSale(count);
    const orders = await reserveOrders(world, saleId, count);
    await runLives(orders.slice(0, WARM_UP_LIVES), milestones, steps(worker));
    const before = world.readCpuMs();
    const seconds = await runLives(orders.slice(WARM_UP_LIVES), milestones, steps(worker));
    const after = world.readCpuMs();
    await waitUntil({
      what: 'all workflows to end',
      timeoutMs: END_TIMEOUT_MS,
      check: async () => (await worker.client.workflow.count('ExecutionStatus = "Running"')).count === 0,
    });
    if (isReal) await expectAllSold(world, saleId, count);
    const cpu = Object.entries(after).map(([name, ms]) => [name, (ms - (before[name] ?? 0)) / LIVES]);
    return { lives: LIVES / seconds, ...Object.fromEntries(cpu) };
  } finally {
    await worker.stop();
  }
}

function createOurActivities({ stores }: EngineWorld): Activities {
  // No step of a paid order asks the provider.
  const access = {
    PAYMENT_PROVIDER_URL: 'http://127.0.0.1:9',
    PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
    WEBHOOK_SECRETS: [demoSecrets.webhook],
  };
  const provider = openProvider(access, stores.deployment);
  return createActivities({ ...stores, provider });
}

function bareStarter({ client }: RunningWorker): LifeSteps['start'] {
  return (order) =>
    client.workflow.start<typeof BareWorkflow>('BareWorkflow', {
      workflowId: order.orderNo,
      taskQueue: TASK_QUEUE,
      args: [order],
      requestEagerStart: true,
    });
}
