/** Starts and signals workflows of what is due in MySQL, as far as the engine has room and answers. */

import type { Logger } from 'pino';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { DueRefund } from '../money/refunds.sql.ts';
import { isFinal, type OrderState } from '../orders/order.ts';
import type { StoredOrder } from '../orders/rows.sql.ts';
import type { EngineBudget, SlotUse } from '../redis/budget.ts';
import type { Stores } from '../stores/open.ts';
import { takeStep } from '../tracing.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import { backoffMs } from './loop.ts';
import type { Burst } from './outbox-follower.ts';

/**
 * A start takes milliseconds, some dozens under load. With one unanswered for so long, Temporal has stalled.
 */
const STALL_MS = 250;

export type EngineGate = ReturnType<typeof createEngineGate>;

export function createEngineGate(budget: EngineBudget, log: Logger) {
  let failures = 0;
  let closedUntilMs = 0;
  /** When the calls under way began, in Unix ms; the first is the oldest. */
  const underWay = new Set<{ sinceMs: number }>();

  function isClosed(): boolean {
    const [oldest] = underWay;
    return Date.now() < closedUntilMs || (oldest !== undefined && Date.now() - oldest.sinceMs >= STALL_MS);
  }

  /** After a failure only one order is let through, as a probe. The others are refused without a wait. */
  const limitToProbe = <T>(orders: readonly T[]): readonly T[] =>
    failures === 0 ? orders : orders.slice(0, 1);

  /** @returns those that got a slot and may start or signal now, in the given order */
  async function admit<T>(
    orders: readonly T[],
    orderNoOf: (order: T) => string,
    use: SlotUse = 'any',
  ): Promise<T[]> {
    if (isClosed()) return [];
    const granted = new Set(await budget.acquire(limitToProbe(orders).map(orderNoOf), use));
    return orders.filter((order) => granted.has(orderNoOf(order)));
  }

  /**
   * Runs `work`, a start or a signal, for each admitted order. The slots of those that failed are released;
   * those of the others the workflow releases, also one that finds its order ended.
   * @returns those that succeeded
   */
  async function run<T>(
    admitted: readonly T[],
    orderNoOf: (order: T) => string,
    work: (order: T) => Promise<unknown>,
  ): Promise<T[]> {
    if (admitted.length === 0) return [];
    const results = await Promise.allSettled(admitted.map(watch(work)));
    const errors = results.flatMap((result) =>
      result.status === 'rejected' ? [result.reason as unknown] : [],
    );
    await release(
      admitted.filter((_, i) => results[i]?.status === 'rejected'),
      orderNoOf,
    );
    if (errors.length > 0) {
      closedUntilMs = Date.now() + backoffMs(failures);
      failures += 1;
      log.warn(
        { err: errors[0], failed: errors.length, failures },
        'Temporal does not accept orders; pausing',
      );
    } else {
      failures = 0;
    }
    return admitted.filter((_, i) => results[i]?.status === 'fulfilled');
  }

  /** Gives back the slots of orders that are not to be started after all. */
  async function release<T>(admitted: readonly T[], orderNoOf: (order: T) => string): Promise<void> {
    await budget.release(admitted.map(orderNoOf));
  }

  function watch<T>(work: (order: T) => Promise<unknown>): (order: T) => Promise<unknown> {
    return async (order) => {
      const call = { sinceMs: Date.now() };
      underWay.add(call);
      return work(order).finally(() => underWay.delete(call));
    };
  }

  /** How many more orders would be admitted now; 0 while Temporal stalls and in a pause after a failure. */
  async function room(use: SlotUse = 'any'): Promise<number> {
    return isClosed() ? 0 : Math.min(await budget.room(use), failures === 0 ? Infinity : 1);
  }

  return {
    room,
    /** The last that was tried has failed, so one alone is let through. */
    isProbing: (): boolean => failures > 0,
    admit,
    run,
    release,
  };
}

// Starts or signals the workflows of orders that MySQL has as due: orders stored ahead whose workflow is yet
// to be started, and orders whose workflow nobody could signal about an end or a cancel request. An order
// that is not begun within a third of its window is left to the ender, unless a person wants it cancelled.

/** Orders per pass, about as many as the engine starts in a second, so that no claim is held for long. */
const CLAIM_MAX = 50;
/** Pause when nothing is due. A due order has waited for seconds already. */
const IDLE_PAUSE_MS = 200;
/** Pause while the engine is full: about the time that a step of a workflow takes. */
const FULL_PAUSE_MS = 20;

export interface StarterDeps extends Stores {
  engine: Pick<OrderEngine, 'start' | 'signalCancelRequested' | 'signalEnded'>;
  gate: EngineGate;
  burst: Pick<Burst, 'sales'>;
}

/** @returns one pass of the starter's loop; the pass returns the pause before the next, in ms */
export function createStarter({ orderClaims, saleStock, engine, gate, burst, ...follow }: StarterDeps) {
  /** The sale that had the last turn. */
  let lastSale = '';

  /** @returns how many were started or signalled; the claims of all are ended */
  async function startOrSignalAll(claimed: readonly StoredOrder[]): Promise<number> {
    let succeeded: StoredOrder[] = [];
    let failed: StoredOrder[] = [];
    try {
      const admitted = await gate.admit(claimed, orderNoOf);
      const done = await gate.run(admitted, orderNoOf, (stored) =>
        takeStep(follow, stepOf(stored), stored.order, () => startOrSignal(engine, stored), {
          kind: 'client',
        }),
      );
      failed = admitted.filter((stored) => !done.includes(stored));
      // No workflow may run that would give back the slot.
      await gate.release(
        done.filter(({ state }) => isFinal(state.status)),
        orderNoOf,
      );
      await orderClaims.complete(done);
      succeeded = done;
    } finally {
      await orderClaims.release(
        claimed.filter((stored) => !succeeded.includes(stored)),
        failed,
      );
    }
    return succeeded.length;
  }

  return async function pass(): Promise<number> {
    const room = await gate.room();
    if (room === 0) return FULL_PAUSE_MS;
    const startRoom = await gate.room('start');
    // Without Redis' clock no order is started, as it may be too late.
    const nowMs = startRoom > 0 ? await saleStock.readTimeMs().catch(() => undefined) : undefined;
    const startsMax = nowMs === undefined ? 0 : Math.min(startRoom, CLAIM_MAX);
    // In a burst the new orders have the processors, and the sale's orders that wait for a start can wait.
    const turns = { after: lastSale, without: burst.sales() };
    const limit = Math.min(room, CLAIM_MAX);
    const claimed = await orderClaims.take(limit, startsMax, nowMs, gate.isProbing(), turns);
    lastSale = claimed.findLast(({ state }) => isStart(state))?.order.saleId ?? lastSale;
    // With no room for starts they may be all that is due.
    if (claimed.length === 0) return startRoom === 0 ? FULL_PAUSE_MS : IDLE_PAUSE_MS;
    return (await startOrSignalAll(claimed)) < claimed.length ? FULL_PAUSE_MS : 0;
  };
}

const orderNoOf = ({ order }: StoredOrder): string => order.orderNo;

function isStart({ status, reason }: OrderState): boolean {
  return !isFinal(status) && reason === null;
}

/** As operators see it in spans and lines. */
function stepOf({ state }: StoredOrder): string {
  if (isFinal(state.status)) return 'signal end';
  return isStart(state) ? 'start workflow' : 'signal cancel';
}

function startOrSignal(
  engine: StarterDeps['engine'],
  { order, state, windowEndsAtMs }: StoredOrder,
): Promise<unknown> {
  if (isFinal(state.status)) return engine.signalEnded(order.orderNo, state);
  if (isStart(state)) return engine.start(order, state, windowEndsAtMs);
  return engine.signalCancelRequested(order, windowEndsAtMs);
}

// Starts or signals the refund workflows of payments that MySQL has as due: because the payment is to be
// refunded, or because its order gives back a limit or stock.

/** Refunds per pass. Few, because orders share the engine, and the provider limits the calls per second. */
const REFUNDS_MAX = 10;
/** Pause when nothing is due. A refund takes days, so a second does not matter. */
const REFUNDS_IDLE_PAUSE_MS = 1_000;
/** Pause after a pass with work, and while the engine is full: at most about fifty starts a second. */
const REFUNDS_FULL_PAUSE_MS = 200;

export interface RefundStarterDeps extends Stores {
  engine: Pick<OrderEngine, 'startRefund'>;
  gate: EngineGate;
}

/** One pass of the loop. @returns the pause before the next, in ms */
export async function startDueRefunds({ refundClaims, engine, gate }: RefundStarterDeps): Promise<number> {
  const room = await gate.room('start');
  if (room === 0) return REFUNDS_FULL_PAUSE_MS;
  const claimed = await refundClaims.take(Math.min(room, REFUNDS_MAX));
  if (claimed.length === 0) return REFUNDS_IDLE_PAUSE_MS;
  let succeeded: DueRefund[] = [];
  let failed: DueRefund[] = [];
  try {
    const admitted = await gate.admit(claimed, slotOf);
    const done = await gate.run(admitted, slotOf, (refund) => engine.startRefund(refund));
    failed = admitted.filter((refund) => !done.includes(refund));
    await refundClaims.complete(done);
    succeeded = done;
  } finally {
    await refundClaims.release(
      claimed.filter((refund) => !succeeded.includes(refund)),
      failed,
    );
  }
  return REFUNDS_FULL_PAUSE_MS;
}

/** The name of the refund's slot in the engine budget. The workflow releases it when it begins. */
const slotOf: (refund: DueRefund) => string = refundWorkflowId;
