/**
 * Several API processes behind one port: this one starts them, replaces those that die, and ends them in
 * order. It answers no caller itself.
 */

import cluster, { type Worker } from 'node:cluster';
import { once } from 'node:events';
import type { Logger } from 'pino';
import type { ApiConfig } from '../config.ts';
import { OperatorError, type Service } from '../process.ts';
import { openMetricsPort, sumOfProcesses, type MetricsAddress } from './gauges.ts';

export interface ReplacementBounds {
  /** Until the first replacement; each further one waits twice as long, up to the greatest. */
  replaceAfterMs: number;
  replaceAfterMaxMs: number;
  /** So many deaths within the time below are no accident: the supervisor of all should know. */
  deathsMax: number;
  deathsWithinMs: number;
}

const BOUNDS: ReplacementBounds = {
  replaceAfterMs: 250,
  replaceAfterMaxMs: 5_000,
  deathsMax: 10,
  deathsWithinMs: 60_000,
};

/**
 * Returns once all of them listen.
 * @param bounds for tests, which wait less
 * @throws when one of them cannot start; it has said why
 */
export async function startProcesses(
  count: number,
  config: MetricsAddress & Pick<ApiConfig, 'DRAIN_SECONDS'>,
  log: Logger,
  { replaceAfterMs, replaceAfterMaxMs, deathsMax, deathsWithinMs }: ReplacementBounds = BOUNDS,
): Promise<Service> {
  let isStopping = false;
  /** The moments of the latest deaths. */
  let deaths: number[] = [];
  let fail: (error: Error) => void = () => {};
  const ended = new Promise<never>((_, reject) => {
    fail = reject;
  });
  // Until the service is returned no caller listens to it.
  ended.catch(() => {});
  const metrics = await openMetricsPort(config, sumOfProcesses(), log);

  function replace({ process: { pid } }: Worker, code: number | null, signal: string | null): void {
    if (isStopping) return;
    const nowMs = performance.now();
    deaths = [...deaths.filter((ms) => nowMs - ms < deathsWithinMs), nowMs];
    log.error({ diedPid: pid, code, signal }, 'an api process died');
    if (deaths.length >= deathsMax) {
      fail(new OperatorError(`${deathsMax} api processes died within ${deathsWithinMs / 1_000} seconds`));
      return;
    }
    const afterMs = Math.min(replaceAfterMs * 2 ** (deaths.length - 1), replaceAfterMaxMs);
    setTimeout(() => {
      if (!isStopping) cluster.fork();
    }, afterMs);
  }

  function running(): Worker[] {
    return Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
  }

  /** Each of them drains by itself. */
  const drain = {
    ms: config.DRAIN_SECONDS * 1_000,
    begin(): void {
      isStopping = true;
      for (const worker of running()) worker.process.kill('SIGTERM');
    },
  };

  async function stop(): Promise<void> {
    isStopping = true;
    await Promise.all(running().map(end));
    await metrics?.close();
  }

  cluster.on('exit', replace);
  try {
    await Promise.all(Array.from({ length: count }, () => listening(cluster.fork())));
  } catch (error) {
    await stop();
    throw error;
  }
  log.info({ processes: count }, 'all api processes are ready');
  return { ended, drain, stop };
}

async function listening(worker: Worker): Promise<void> {
  const died = once(worker, 'exit').then(() => {
    throw new OperatorError('an api process could not start');
  });
  await Promise.race([once(worker, 'listening'), died]);
  // It may die later; that is for the others to outlive.
  died.catch(() => {});
}

/** As the supervisor of a single process would: it answers what it has in hand first. */
async function end(worker: Worker): Promise<void> {
  if (worker.isDead()) return;
  const exit = once(worker, 'exit');
  worker.process.kill('SIGTERM');
  await exit;
}
