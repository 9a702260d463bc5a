/**
 * Keeps the schedule of the reconciliation, and notices by its absence that Temporal has lost its data: then
 * all that Temporal was working on is made due again from MySQL.
 */

import type { ReconcileSchedule } from '../engine/reconcile-schedule.ts';
import type { Stores } from '../stores/open.ts';

/** A reconciliation that does not run mends nothing, and nothing of what it mends is urgent. */
const ENSURE_EVERY_MS = 60_000;
/** Rows of one transaction. */
const BATCH_SIZE = 500;

export interface ScheduleKeeperDeps extends Stores {
  schedule: ReconcileSchedule;
  namespace: string;

  /** Between two runs of the reconciliation. */
  everyMs: number;
  signal: AbortSignal;
}

/** @returns one pass of the keeper's loop; the pass returns the pause before the next, in ms */
export function createScheduleKeeper(deps: ScheduleKeeperDeps): () => Promise<number> {
  const { schedule, namespace, temporalNamespaces, orderClaims, refundClaims, everyMs, signal, log } = deps;

  /** @returns whether the mark is to be cleared: there is none yet, or all is due again */
  async function recover(): Promise<boolean> {
    const mark = await temporalNamespaces.read(namespace);
    if (mark === undefined) return true;
    if (mark === 'made' && (await schedule.exists())) return false;
    if (mark === 'made') {
      log.error({ namespace }, 'Temporal has lost its data; orders and refunds get workflows again');
      await temporalNamespaces.markLost(namespace);
    }
    const orders = await requeueAll(orderClaims, ({ orderNo }) => orderNo, signal);
    const refunds = await requeueAll(refundClaims, ({ paymentId }) => paymentId, signal);
    if (signal.aborted) return false;
    log.error({ namespace, orders, refunds }, 'what Temporal has lost is due again');
    return true;
  }

  return async function pass(): Promise<number> {
    const isToBeMarked = await recover();
    if (signal.aborted) return 0;
    const outcome = await schedule.ensure();
    if (outcome !== 'unchanged') log.info({ outcome }, 'the schedule of the reconciliation is up to date');
    // After the schedule: a process that dies in between makes all due once more, which does no harm.
    if (isToBeMarked) await temporalNamespaces.markMade(namespace);
    return Math.min(everyMs, ENSURE_EVERY_MS);
  };
}

interface Queue<T, I> {
  listOpen: (after: T | undefined, limit: number) => Promise<T[]>;
  requeue: (ids: readonly I[]) => Promise<I[]>;
}

/**
 * Makes all due of which a workflow alone would go on, also where its workflow was started again meanwhile: a
 * second start finds it. @returns how many
 */
async function requeueAll<T extends { isWaiting: boolean }, I>(
  { listOpen, requeue }: Queue<T, I>,
  idOf: (row: T) => I,
  signal: AbortSignal,
): Promise<number> {
  let requeued = 0;
  let page: T[] = [];
  do {
    page = await listOpen(page.at(-1), BATCH_SIZE);
    const waiting = page.filter(({ isWaiting }) => isWaiting);
    requeued += (await requeue(waiting.map(idOf))).length;
  } while (page.length === BATCH_SIZE && !signal.aborted);
  return requeued;
}
