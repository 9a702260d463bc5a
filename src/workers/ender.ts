/**
 * Ends orders that no workflow has begun when their deadline has passed: in MySQL a page at a time, and then
 * in Redis. So a peak that Temporal could not follow ends in time, and its orders need no workflow. An order
 * whose payment page may still be open ends once its sessions are void at the provider, for which no other
 * waits. Beside it the shop is told of the orders whose deadlines are near.
 */

import pLimit from 'p-limit';
import type { ActivityDeps } from '../activities/index.ts';
import { PROVIDER_CALLS_AT_ONCE } from '../limits.ts';
import { voidSessions } from '../money/void-sessions.ts';
import { isUnavailable } from '../mysql/connection.ts';
import type { ClosingOrder } from '../orders/endings.sql.ts';
import { follow } from '../orders/follow.ts';
import type { OrderChange } from '../orders/order.ts';
import { ProviderBusyError } from '../providers/provider.ts';
import type { Stores } from '../stores/open.ts';
import { runLoop, type LoopWatch } from './loop.ts';

/** As many as are stored in one transaction: the counters of a SKU are locked for as long. */
const PAGE_SIZE = 500;
/** While one page is projected, MySQL ends another. */
const PAGES_AT_ONCE = 2;
/** A hold that ends a second after its deadline is early enough, and a look is two statements. */
const IDLE_PAUSE_MS = 1_000;
/** Rounds of calls for the closing orders of a pass, each of some twenty seconds at most, within a claim. */
const ROUNDS_MAX = 2;
/** Orders that are ended at once, each in a transaction of its own. */
const ENDS_AT_ONCE = 10;
/**
 * While the provider is away a pass calls it for one order, as a probe, and ends those whose time is over.
 */
const CLOSING_WHILE_AWAY_MAX = 200;
/**
 * If the provider has not been asked within this time, the order is cancelled anyway. It then ends at most
 * two minutes after its deadline.
 */
const TURN_PATIENCE_SECONDS = 90;
/** Each is a transaction of its own; within their claim. */
const OVERDUE_MAX = 200;
/** Before sessions that could not be voided are tried again. */
const RETRY_MS = 5_000;
/** Before an order is tried again that MySQL cannot end, as its bookings contradict each other. */
const FAULTY_RETRY_MS = 60_000;

interface CloserDeps extends ActivityDeps {
  /** Calls to the provider at once, as many as the steps of workflows make. */
  providerCallsAtOnce?: number;
}

/** Runs until `signal` aborts and the passes under way are finished. */
export async function runEnder(deps: CloserDeps & { watch?: LoopWatch }, signal: AbortSignal): Promise<void> {
  const { log, watch } = deps;
  const loops = { log, signal, watch };
  await Promise.all([
    ...Array.from({ length: PAGES_AT_ONCE }, () => runLoop('ender', createEnder(deps), loops)),
    runLoop('ended', () => finishMissed(deps), loops),
    runLoop('closer', createCloser(deps, signal), loops),
    runLoop('overdue closer', () => closeOverdue(deps), loops),
    runLoop('announcer', () => announceNear(deps), loops),
  ]);
}

/**
 * @returns one pass of the ender's loop, in turns by sale; the pass returns the pause before the next, in ms
 */
export function createEnder(deps: Stores): () => Promise<number> {
  let lastSale = '';
  return async function pass(): Promise<number> {
    // While Redis is away no order ends: it could not give the stock back.
    const nowMs = await deps.saleStock.readTimeMs();
    const { taken, changed, saleId } = await deps.endings.endPage(nowMs, PAGE_SIZE, lastSale);
    lastSale = saleId;
    await follow(deps, changed);
    return taken > 0 ? 0 : IDLE_PAUSE_MS;
  };
}

/**
 * One pass of the loop that tells the shop of near deadlines. It waits neither for Redis nor for the ends of
 * a peak: a notice that comes after its deadline is none.
 * @returns the pause before the next, in ms
 */
async function announceNear({ deadlines, log }: Stores): Promise<number> {
  return (await deadlines.announceExpiring(PAGE_SIZE, log)) > 0 ? 0 : IDLE_PAUSE_MS;
}

/**
 * One pass of the loop that projects ends which Redis may have missed, as the process that ended the
 * orders died or failed.
 * @returns the pause before the next, in ms
 */
export async function finishMissed(deps: Stores): Promise<number> {
  const missed = await deps.endings.takeEnded(PAGE_SIZE);
  const followed = [...(await follow(deps, missed)).values()];
  const isProgress = followed.some(({ hold }) => hold === 'settled');
  return isProgress && missed.length === PAGE_SIZE ? 0 : IDLE_PAUSE_MS;
}

type VoidOutcome = 'void' | 'busy' | 'failed';

/**
 * @param signal once it aborts, the pass under way calls the provider for no further order
 * @returns one pass of the closer's loop; the pass returns the pause before the next, in ms
 */
export function createCloser(deps: CloserDeps, signal?: AbortSignal): () => Promise<number> {
  const { endings, log, providerCallsAtOnce: callsAtOnce = PROVIDER_CALLS_AT_ONCE } = deps;
  let isAway = false;

  async function tryToVoid(orderNo: string): Promise<VoidOutcome> {
    try {
      await voidSessions(deps, orderNo);
      return 'void';
    } catch (error) {
      if (error instanceof ProviderBusyError) return 'busy';
      log.warn({ err: error, orderNo }, 'the payment sessions of an order are not void yet');
      return 'failed';
    }
  }

  return async function pass(): Promise<number> {
    const wasAway = isAway;
    const taken = await endings.takeClosing(wasAway ? CLOSING_WHILE_AWAY_MAX : ROUNDS_MAX * callsAtOnce);
    if (taken.length === 0) return IDLE_PAUSE_MS;
    const tries: VoidOutcome[] = [];
    const limit = pLimit(callsAtOnce);
    // Each takes a connection of MySQL, of which a process has fewer than it may make calls.
    const ending = pLimit(ENDS_AT_ONCE);
    const closeInTurn: typeof close = (...args) => ending(() => close(...args));
    const changes = await Promise.all(
      taken.map((order, i) =>
        limit(async () => {
          // Another process tries: nothing is ended for want of time that this one does not have.
          if (signal?.aborted) return closeInTurn(deps, { ...order, isOverdue: false }, false);
          if (wasAway && i > 0) return closeInTurn(deps, order, false);
          const outcome = await tryToVoid(order.orderNo);
          tries.push(outcome);
          return closeInTurn(deps, order, outcome === 'void');
        }),
      ),
    );
    isAway = tries.every((outcome) => outcome === 'failed');
    await follow(deps, changes.flat());
    return 0;
  };
}

/**
 * One pass of the loop that ends closing orders whose turn at the provider has not come: it is slow, or
 * thousands of pages were open at once.
 * @returns the pause before the next, in ms
 */
export async function closeOverdue(deps: ActivityDeps): Promise<number> {
  const taken = await deps.endings.takeClosing(OVERDUE_MAX, TURN_PATIENCE_SECONDS);
  const limit = pLimit(ENDS_AT_ONCE);
  const changes = await Promise.all(taken.map((order) => limit(() => close(deps, order, false))));
  await follow(deps, changes.flat());
  return taken.length > 0 ? 0 : IDLE_PAUSE_MS;
}

/** One that fails delays no other: its claim runs out. */
async function close(deps: ActivityDeps, order: ClosingOrder, isVoid: boolean): Promise<OrderChange[]> {
  const { orderNo, isOverdue } = order;
  try {
    const isEnding = isVoid || isOverdue;
    const change = isEnding ? await end(deps, orderNo, { force: !isVoid }) : undefined;
    if (!isEnding) await deps.endings.putOff(orderNo, RETRY_MS);
    return change ? [change] : [];
  } catch (error) {
    deps.log.warn({ err: error, orderNo }, 'an order was not ended yet');
    return [];
  }
}

async function end(
  { endings, orders }: ActivityDeps,
  orderNo: string,
  options: { force: boolean },
): Promise<OrderChange | undefined> {
  try {
    return await endings.endOne(orderNo, options);
  } catch (error) {
    if (isUnavailable(error)) throw error;
    await orders.park(orderNo, `it cannot be ended: ${String(error)}`, null);
    await endings.putOff(orderNo, FAULTY_RETRY_MS);
    return undefined;
  }
}
