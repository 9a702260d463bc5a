/** How Temporal is set up: the namespace, what the workflows need of it, and who works on the queues. */

import type { Connection } from '@temporalio/client';
import { z } from 'zod';
import { paymentsQueueOf, searchAttributes } from '../workflows/contract.ts';
import type { Checkup, ClockReading, Line } from './line.ts';

/** As far as a client's and a worker's connection have it. */
export type TemporalConnection = Pick<Connection, 'workflowService' | 'operatorService'>;

export interface TemporalPlace {
  namespace: string;
  taskQueue: string;
  /** false: by a worker that starts, and does not poll them yet. */
  withQueues: boolean;
}

/** As long as a sale's data are made again, and an operator looks back at an order. */
const LEAST_RETENTION_HOURS = 72;
const LEAST_RETENTION_MS = LEAST_RETENTION_HOURS * 3_600_000;
/** A poll takes a minute, and is noted when it begins. */
const POLL_MS = 75_000;

export async function examineTemporal(
  { workflowService, operatorService }: TemporalConnection,
  { namespace, taskQueue, withQueues }: TemporalPlace,
): Promise<Checkup> {
  const services = { workflowService, operatorService };
  const queueNames = { workflows: taskQueue, activities: paymentsQueueOf(taskQueue) };
  const [system, described, attributes, queues] = await Promise.all([
    workflowService.getSystemInfo({}),
    workflowService.describeNamespace({ namespace }).catch(isAnswered),
    operatorService.listSearchAttributes({ namespace }).catch(isAnswered),
    Promise.all(
      (withQueues ? (['workflows', 'activities'] as const) : []).map((kind) =>
        describeQueue(services, namespace, queueNames[kind], kind),
      ),
    ).catch(isAnswered),
  ]);
  const version = system.serverVersion ?? '';
  const lines: Line[] = [
    { level: 'ok', what: 'Temporal', found: `server ${version || 'of unknown version'}` },
  ];
  if (!described) {
    lines.push({
      level: 'bad',
      what: 'Temporal namespace',
      found: `${namespace} is not there, or not ours to see`,
      means: 'Orders are stored and can be paid, and no payment reaches its order.',
      remedy: `Set TEMPORAL_NAMESPACE, or run \`temporal operator namespace create --retention ${LEAST_RETENTION_HOURS}h ${namespace}\`.`,
    });
    return { lines };
  }
  const retention = described.config?.workflowExecutionRetentionTtl;
  lines.push(
    judgeRetention(namespace, retention ? Number(retention.seconds ?? 0) * 1_000 : undefined),
    judgeAttributes(namespace, attributes && Object.keys(attributes.customAttributes ?? {})),
    ...(queues ?? []).map(judgePollers),
    ...(queues ? await judgeVersions(services, namespace, queues) : []),
  );
  const clock = readPollClock(queues ?? []);
  return { lines, ...(clock && { clocks: [clock] }) };
}

const grpcError = z.object({ code: z.int() });
/** CANCELLED, DEADLINE_EXCEEDED, UNAVAILABLE of gRPC. */
const AWAY = [1, 4, 14];

/** Undefined where Temporal answered and refused. @throws what shows that it is away */
function isAnswered(error: unknown): undefined {
  const code = grpcError.safeParse(error).data?.code;
  if (code === undefined || AWAY.includes(code)) throw error;
}

interface Queue {
  name: string;
  kind: 'workflows' | 'activities';
  pollers: { lastMs: number; deployment: string; build: string }[];
}

async function describeQueue(
  { workflowService }: TemporalConnection,
  namespace: string,
  name: string,
  kind: Queue['kind'],
): Promise<Queue> {
  const { pollers } = await workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name },
    // TASK_QUEUE_TYPE_WORKFLOW, TASK_QUEUE_TYPE_ACTIVITY
    taskQueueType: kind === 'workflows' ? 1 : 2,
  });
  return {
    name,
    kind,
    pollers: (pollers ?? []).map(({ lastAccessTime, deploymentOptions }) => ({
      lastMs: Number(lastAccessTime?.seconds ?? 0) * 1_000 + (lastAccessTime?.nanos ?? 0) / 1e6,
      deployment: deploymentOptions?.deploymentName ?? '',
      build: deploymentOptions?.buildId ?? '',
    })),
  };
}

function judgeRetention(namespace: string, ms: number | undefined): Line {
  const what = 'Temporal retention';
  const found = `${namespace} keeps ended workflows for ${ms === undefined ? 'a time not said' : `${ms / 3_600_000} h`}`;
  if (ms !== undefined && ms >= LEAST_RETENTION_MS) return { level: 'ok', what, found };
  return {
    level: ms === undefined ? 'unknown' : 'warn',
    what,
    found,
    means:
      'No order is lost by it, but soon no one can see how one went: `ops order show` and the Web UI forget.',
    remedy: `\`temporal operator namespace update --retention ${LEAST_RETENTION_HOURS}h ${namespace}\`.`,
  };
}

/** @param known undefined: Temporal does not say, as in Temporal Cloud */
function judgeAttributes(namespace: string, known: readonly string[] | undefined): Line {
  const what = 'Temporal search attributes';
  const wanted = Object.values(searchAttributes).map(({ name }) => name);
  const missing = wanted.filter((name) => known && !known.includes(name));
  if (!known)
    return {
      level: 'unknown',
      what,
      found: 'may not be listed here',
      means: 'Without them Temporal starts no order.',
      remedy: `See that the namespace has ${wanted.join(', ')}, each a Keyword.`,
    };
  if (missing.length === 0) return { level: 'ok', what, found: wanted.join(', ') };
  const flags = missing.map((name) => `--name ${name} --type Keyword`).join(' ');
  return {
    level: 'bad',
    what,
    found: `without ${missing.join(', ')}`,
    means: 'Temporal starts no order, and the worker refuses to start.',
    remedy: `\`temporal operator search-attribute create --namespace ${namespace} ${flags}\`.`,
  };
}

function judgePollers({ name, kind, pollers }: Queue): Line {
  const what = `Temporal queue ${name}`;
  const builds = [...new Set(pollers.map(({ build }) => build).filter((build) => build !== ''))];
  const found = `${pollers.length} ${pollers.length === 1 ? 'poller' : 'pollers'} of ${kind}`;
  if (pollers.length > 0)
    return { level: 'ok', what, found: builds.length > 0 ? `${found}, ${builds.join(', ')}` : found };
  return {
    level: 'warn',
    what,
    found,
    means: 'No worker works on it: orders wait there, and no payment reaches its order.',
    remedy: 'Start a worker with this TEMPORAL_TASK_QUEUE, and see its log.',
  };
}

/** With versions Temporal gives new orders to the current one alone. */
async function judgeVersions(
  { workflowService }: TemporalConnection,
  namespace: string,
  queues: readonly Queue[],
): Promise<Line[]> {
  const pollers = queues.flatMap((queue) => queue.pollers).filter(({ build }) => build !== '');
  const names = [...new Set(pollers.map(({ deployment }) => deployment))];
  return Promise.all(
    names.map(async (deploymentName): Promise<Line> => {
      const what = `Temporal versions of ${deploymentName}`;
      const { workerDeploymentInfo } = await workflowService.describeWorkerDeployment({
        namespace,
        deploymentName,
      });
      const current = workerDeploymentInfo?.routingConfig?.currentDeploymentVersion?.buildId ?? '';
      const builds = [
        ...new Set(pollers.filter((p) => p.deployment === deploymentName).map(({ build }) => build)),
      ];
      if (builds.includes(current)) return { level: 'ok', what, found: `${current} is current and at work` };
      return {
        level: 'bad',
        what,
        found: current === '' ? 'none is current' : `${current} is current, and no worker of it polls`,
        means: 'New orders wait for a worker of the current version.',
        remedy: `Start one, or \`temporal worker deployment set-current-version --deployment-name ${deploymentName} --build-id ${builds[0]}\`.`,
      };
    }),
  );
}

/** Temporal tells no time of its own; its note of the last poll is at most a poll old. */
function readPollClock(queues: readonly Queue[]): ClockReading | undefined {
  const lastMs = Math.max(0, ...queues.flatMap(({ pollers }) => pollers.map((poller) => poller.lastMs)));
  if (lastMs === 0) return undefined;
  return {
    server: 'Temporal',
    aheadMs: Math.round(lastMs + POLL_MS / 2 - Date.now()),
    withinMs: POLL_MS / 2,
  };
}
