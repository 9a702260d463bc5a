/** The activities of calling off. Each may run twice or die half-way: what is done is found done. */

import { cancellationSignal, heartbeat } from '@temporalio/activity';
import { follow } from '../orders/follow.ts';
import type { CallOffJob } from '../sales/calling-off.sql.ts';
import { refuseOrders } from '../sales/calling-off.ts';
import type { Stores } from '../stores/open.ts';
import type { CallOffInput } from '../workflows/contract.ts';

/** Orders of one page, at most: one transaction, and at most as many refunds as may be under way. */
const PAGE_SIZE = 100;
/**
 * Refunds of one job that are worked on at once. They begin at most fifty a second, and each takes its share
 * of the engine and of the provider from orders.
 */
const REFUNDS_AT_ONCE = 50;
/**
 * If the provider has refused 500 refunds and 5 % of all, we assume that it refuses everything, for example
 * because the account is empty. Each is tried again every ten minutes: a call a second, or a few.
 */
const REFUSED_MAX = 500;
const REFUSED_PART = 1 / 20;
/** Then request only ten per pass, to notice when it accepts refunds again. */
const TRIED_AT_ONCE = 10;
/** Several to each heartbeat timeout of the workflow. */
const HEARTBEAT_EVERY_MS = 2_000;

/** Where a pass goes on: first all open orders, then all paid ones, each by their numbers. */
export interface CallOffCursor {
  phase: 'open' | 'paid';
  after: string;
}

export interface CallOffPage {
  /** Undefined: the pass is over. */
  next: CallOffCursor | undefined;
  /** Orders that keep the job from its end: open, not asked back or just now, or on the way back. */
  left: number;
  /** As many refunds are under way as may be. */
  isFull: boolean;
}

export type CallOffActivities = ReturnType<typeof createCallOffActivities>;

export function createCallOffActivities(deps: Stores) {
  const { callingOffs, sales, saleRebuild, log } = deps;

  /** Undefined where MySQL has lost it and it cannot be written again. */
  async function read({ jobId, terms }: CallOffInput): Promise<CallOffJob | undefined> {
    const found = await callingOffs.readJob(jobId);
    if (found || !terms) return found;
    const { saleId } = terms;
    if (!(await sales.read(saleId))) return undefined;
    // Before the job is there again: a repeat would not come to it.
    await refuseOrders(deps, terms);
    const job = await callingOffs.restoreJob(jobId, terms);
    if (job) log.error({ jobId, saleId }, 'MySQL had lost a calling-off; it was written again');
    return job;
  }

  return {
    /** No order is taken any more. @throws while Redis cannot decide it */
    async refuseCalledOff(input: CallOffInput): Promise<void> {
      const job = await read(input);
      if (job) await refuseOrders(deps, job);
    },

    /** Works on one page of a pass. */
    async callOffPage({ cursor, ...input }: CallOffInput & { cursor: CallOffCursor }): Promise<CallOffPage> {
      const job = await read(input);
      if (!job || job.endedAt) return { next: undefined, left: 0, isFull: false };
      if (cursor.phase === 'open' && cursor.after === '') await callingOffs.beginPass(job.jobId);
      const beating = setInterval(heartbeat, HEARTBEAT_EVERY_MS);
      try {
        return cursor.phase === 'open'
          ? await closeOpen(deps, job, cursor.after)
          : await askBack(deps, job, cursor.after, cancellationSignal());
      } finally {
        clearInterval(beating);
      }
    },

    /**
     * A pass is over.
     * @param left what it has found
     * @returns whether the job has ended; a sale with orders in the outbox is passed over once more
     */
    async endCallOffPass({ left, ...input }: CallOffInput & { left: number }): Promise<boolean> {
      const job = await read(input);
      if (!job || job.endedAt) return true;
      await callingOffs.countPass(job.jobId);
      const isWaiting = job.sku === '' && (await saleRebuild.countWaiting(job.saleId)) > 0;
      if (left > 0 || isWaiting) return false;
      return callingOffs.endJob(job.jobId);
    },
  };
}

async function closeOpen(stores: Stores, job: CallOffJob, after: string): Promise<CallOffPage> {
  const { callingOffs, reservations } = stores;
  // Redis shows one as paid that MySQL has lost and stored again. It waits for its payment to be found, else
  // it would be cancelled behind what its shopper sees.
  const readShownPaid = async (orderNos: readonly string[]) => {
    const shown = await reservations.readOrders(orderNos);
    return new Set(shown.flatMap((found) => (found?.state.status === 'paid' ? [found.order.orderNo] : [])));
  };
  const { open, closed, next } = await callingOffs.closeOpen(job, after, PAGE_SIZE, readShownPaid);
  // Where this gets lost, the end of each order is projected later.
  await follow(stores, closed);
  const cursor: CallOffCursor =
    next === undefined ? { phase: 'paid', after: '' } : { phase: 'open', after: next };
  return { next: cursor, left: open, isFull: false };
}

/** Asks the money of paid orders back, as far as refunds have ended. */
async function askBack(
  { callingOffs, log }: Stores,
  job: CallOffJob,
  after: string,
  signal: AbortSignal,
): Promise<CallOffPage> {
  const { jobId, saleId } = job;
  const { orders, next } = await callingOffs.listPaid(job, after, PAGE_SIZE);
  // Counted once there is something to ask for: it reads all refunds that are under way, and most pages of a
  // later pass have nothing.
  let room: number | undefined;
  let isRefusing = false;
  let last = after;
  let asked = 0;
  for (const { orderNo, payment, isRequested } of orders) {
    if (!isRequested && payment !== 'refunded') {
      if (room === undefined) {
        const pending = await callingOffs.countPending(jobId);
        isRefusing = pending.refused >= Math.max(REFUSED_MAX, pending.asked * REFUSED_PART);
        room = (isRefusing ? TRIED_AT_ONCE : REFUNDS_AT_ONCE) - pending.busy;
        if (isRefusing)
          log.warn({ saleId, jobId, ...pending }, 'refunds are refused; few more are asked for');
      }
      if (room <= 0 && isRefusing) break;
      if (room <= 0 || signal.aborted)
        return { next: { phase: 'paid', after: last }, left: asked, isFull: true };
      const { outcome, isDisputed = payment === 'disputed' } = await callingOffs.requestCalledOff(
        orderNo,
        job,
      );
      if (outcome === 'failed') log.error({ orderNo, saleId, jobId }, 'a called-off order is not refunded');
      // What is disputed stays with the shop or not as the dispute ends.
      const isFine = outcome === 'requested' || outcome === 'nothing';
      const cause = isFine ? (isDisputed ? 'disputed' : undefined) : outcome;
      await callingOffs.noteException(jobId, orderNo, cause);
      if (outcome === 'requested') {
        asked += 1;
        room -= 1;
      }
    }
    last = orderNo;
  }
  // The pass ends, as the pause until the next one grows.
  if (isRefusing) return { next: undefined, left: asked + 1, isFull: false };
  if (next !== undefined) return { next: { phase: 'paid', after: next }, left: asked, isFull: false };
  // At the end of the pass: those of earlier pages may be under way yet.
  const { unended } = await callingOffs.countPending(jobId);
  return { next: undefined, left: asked + unended, isFull: false };
}
