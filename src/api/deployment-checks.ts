/**
 * Whether the API has the stores and the task queue of one deployment. It sells with Redis alone, so it also
 * starts while MySQL or Temporal is away, and then ends as soon as one of them turns out to be another's.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { Logger } from 'pino';
import { WrongDeploymentError } from '../deployment.ts';
import { isOwnQueue } from '../engine/reconcile-schedule.ts';
import type { Stores } from '../stores/open.ts';

/** The first callers wait for so long when Temporal is away. */
const ANSWER_MS = 1_500;
/** Until a worker has taken the queue, or Temporal is back. */
const ASK_EVERY_MS = 15_000;

export interface DeploymentCheckDeps {
  stores: Pick<Stores, 'deployment'>;
  /** Connects when it is first called. */
  openClient: () => Client;
  taskQueue: string;
  log: Logger;
}

export function createDeploymentChecks({ stores, openClient, taskQueue, log }: DeploymentCheckDeps) {
  const { deployment } = stores;
  let isQueueKnown = false;

  /**
   * On a connection of its own, with which an unanswered call ends. A client that has called keeps an
   * AsyncLocalStorage until its connection is closed. While there is one each promise of the process costs
   * more: under Node 20 a tenth of what a purchase costs, and more.
   */
  async function askTemporal(): Promise<void> {
    if (isQueueKnown) return;
    const client = openClient();
    try {
      const owner = { taskQueue, deployment: deployment.known() };
      isQueueKnown = await isOwnQueue(client, owner, AbortSignal.timeout(ANSWER_MS));
    } finally {
      await client.connection.close();
    }
  }

  async function askUntilKnown(signal: AbortSignal): Promise<void> {
    while (!isQueueKnown && !signal.aborted) {
      await askTemporal().catch(throwIfWrong);
      if (!isQueueKnown) await delay(ASK_EVERY_MS, undefined, { signal }).catch(() => {});
    }
  }

  return {
    /** Before the first request. @throws WrongDeploymentError */
    async begin(): Promise<void> {
      await deployment.join().catch((error: unknown) => {
        throwIfWrong(error);
        log.warn({ err: error }, 'it is not known yet whether Redis and MySQL belong together');
      });
      await askTemporal().catch(throwIfWrong);
    },

    /** Until `signal` aborts. @throws WrongDeploymentError */
    goOn: async (signal: AbortSignal): Promise<void> => {
      await Promise.all([deployment.keep(signal), askUntilKnown(signal)]);
    },
  };
}

/** A server that is away says nothing about whose it is. */
function throwIfWrong(error: unknown): void {
  if (error instanceof WrongDeploymentError) throw error;
}
