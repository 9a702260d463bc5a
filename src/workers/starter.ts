/** Starts and signals workflows of what is due in MySQL, as far as the engine has room and answers. */

import type { Logger } from 'pino';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { DueRefund } from '../money/refunds.sql.ts';
import { isFinal } from '../orders/order.ts';
import type { StoredOrder } from '../orders/rows.sql.ts';
import type { EngineBudget, SlotUse } from '../redis/budget.ts';
import type { Stores } from '../stores/open.ts';
import { takeStep } from '../tracing.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import { backoffMs } from './loop.ts';

/**
 * A start takes milliseconds, some dozens under load. With one unanswered for so long, Temporal has stalled.
 */
const STALL_MS = 250;
/**
 * For so long after the first start or signal of a process its worker is cold: code is compiled, connections
 * are opened, and a step takes ten times as long. Starts wait meanwhile, and money does not wait behind them.
 */
const COLD_MS = 5_000;
/**
 * Though money keeps others away, each loop may start one in this time, so that none waits for ever. Four a
 * second take less than a tenth of a small machine.
 */
const FLOOR_MS = 250;

/** What an order passes the gate for. */
type GateUse = Exclude<SlotUse, 'lone start'>;

export type EngineGate = ReturnType<typeof createEngineGate>;

/** @param coldMs 0: the process has worked before */
export function createEngineGate(budget: EngineBudget, log: Logger, coldMs = COLD_MS) {
  let failures = 0;
  let closedUntilMs = 0;
  /** When the calls under way began, in Unix ms; the first is the oldest. */
  const underWay = new Set<{ sinceMs: number }>();
  let coldUntilMs = coldMs === 0 ? 0 : Infinity;

  function isClosed(): boolean {
    const [oldest] = underWay;
    return Date.now() < closedUntilMs || (oldest !== undefined && Date.now() - oldest.sinceMs >= STALL_MS);
  }

  /** In a cold worker an order is started only while nothing else is at work, here or anywhere. */
  function slotUse(use: GateUse): SlotUse {
    return use === 'start' && Date.now() < coldUntilMs ? 'lone start' : use;
  }

  /** After a failure only one order is let through, as a probe. The others are refused without a wait. */
  const limitToProbe = <T>(orders: readonly T[]): readonly T[] =>
    failures === 0 ? orders : orders.slice(0, 1);

  /** @returns those that got a slot and may start or signal now, in the given order */
  async function admit<T>(
    orders: readonly T[],
    orderNoOf: (order: T) => string,
    use: GateUse = 'any',
  ): Promise<T[]> {
    if (isClosed()) return [];
    const granted = new Set(await budget.acquire(limitToProbe(orders).map(orderNoOf), slotUse(use)));
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
    work: (order: T) => Promise<void>,
  ): Promise<T[]> {
    if (admitted.length === 0) return [];
    const results = await Promise.allSettled(admitted.map(watch(work)));
    if (coldUntilMs === Infinity && results.some(({ status }) => status === 'fulfilled'))
      coldUntilMs = Date.now() + coldMs;
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

  function watch<T>(work: (order: T) => Promise<void>): (order: T) => Promise<void> {
    return async (order) => {
      const call = { sinceMs: Date.now() };
      underWay.add(call);
      return work(order).finally(() => underWay.delete(call));
    };
  }

  /** How many more orders would be admitted now; 0 while Temporal stalls and in a pause after a failure. */
  async function room(use: GateUse = 'any'): Promise<number> {
    return isClosed() ? 0 : Math.min(await budget.room(slotUse(use)), failures === 0 ? Infinity : 1);
  }

  return {
    room,
    /** The last that was tried has failed, so one alone is let through. */
    isProbing: (): boolean => failures > 0,
    /**
     * For one loop.
     * @returns asks how many workflows it may begin now: not none for long, unless the engine is half full
     */
    roomForStarts() {
      let lastMs = Date.now();
      return async (): Promise<number> => {
        const nowMs = Date.now();
        const starts = await room('start');
        if (starts === 0 && nowMs - lastMs < FLOOR_MS) return 0;
        lastMs = nowMs;
        return starts > 0 ? starts : Math.min(await room('late start'), 1);
      };
    },
    admit,
    run,
    release,
  };
}

// Starts or signals the workflows of orders that MySQL has as due: orders stored ahead whose workflow is
// yet to be started, and orders whose workflow the API could not signal about a payment or a cancel. What
// is not begun within a third of its window is left to the ender, unless it has money or is to be
// cancelled.

/** Orders per pass, about as many as the engine starts in a second, so that no claim is held for long. */
const CLAIM_MAX = 50;
/** Pause when nothing is due. A due order has waited for seconds already. */
const IDLE_PAUSE_MS = 200;
/** Pause while the engine is full: about the time that a step of a workflow takes. */
const FULL_PAUSE_MS = 20;
/**
 * Pause while starts yield to money: about the time that a payment takes. A look costs MySQL five statements.
 */
const YIELD_PAUSE_MS = 50;

export interface StarterDeps extends Stores {
  engine: Pick<OrderEngine, 'start' | 'signalPaymentReceived' | 'signalCancelRequested' | 'signalEnded'>;
  gate: EngineGate;
  burst: { isOn: () => boolean };
}

/** @returns one pass of the starter's loop; the pass returns the pause before the next, in ms */
export function createStarter({ orderClaims, saleStock, engine, gate, burst, ...follow }: StarterDeps) {
  const readStartRoom = gate.roomForStarts();
  /** Orders waited that yield to others when there was room for them last. */
  let hasBacklog = true;

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
    // In a burst new orders have the processors, and those that only wait to be started can wait.
    const isBurst = burst.isOn();
    const startRoom = isBurst ? 0 : await readStartRoom();
    // Without Redis' clock no order is started, as it may be too late. Money needs no clock.
    const nowMs = startRoom > 0 ? await saleStock.readTimeMs().catch(() => undefined) : undefined;
    const startsMax = nowMs === undefined ? 0 : Math.min(startRoom, CLAIM_MAX);
    const limit = Math.min(room, CLAIM_MAX);
    const claimed = await orderClaims.take(limit, startsMax, nowMs, gate.isProbing());
    if (startRoom > 0) hasBacklog = claimed.length === limit || claimed.some(isPatient);
    const isYielding = hasBacklog && startRoom === 0 && !isBurst;
    if (claimed.length === 0) return isYielding ? YIELD_PAUSE_MS : IDLE_PAUSE_MS;
    return (await startOrSignalAll(claimed)) < claimed.length ? FULL_PAUSE_MS : 0;
  };
}

const orderNoOf = ({ order }: StoredOrder): string => order.orderNo;
/** It has its place behind those that somebody waits for. */
const isPatient = ({ state: { payment, reason } }: StoredOrder): boolean =>
  payment === 'none' && (reason === null || reason === 'called_off');

/** As operators see it in spans and lines. */
function stepOf({ state }: StoredOrder): string {
  if (isFinal(state.status)) return 'signal end';
  if (state.payment === 'received') return 'signal payment';
  return state.reason === null ? 'start workflow' : 'signal cancel';
}

/**
 * A payment is signalled before a cancel, because it also decides the cancel. An order that has ended was
 * ended without a workflow, and one may have been started meanwhile.
 */
function startOrSignal(
  engine: StarterDeps['engine'],
  { order, state, windowEndsAtMs }: StoredOrder,
): Promise<void> {
  if (isFinal(state.status)) return engine.signalEnded(order.orderNo);
  if (state.payment === 'received') return engine.signalPaymentReceived(order, windowEndsAtMs, state);
  if (state.reason !== null) return engine.signalCancelRequested(order, windowEndsAtMs);
  return engine.start(order, state, windowEndsAtMs);
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
  /** The loop's own `roomForStarts` of the gate. */
  readStartRoom: () => Promise<number>;
}

/** One pass of the loop. @returns the pause before the next, in ms */
export async function startDueRefunds({
  refundClaims,
  engine,
  gate,
  readStartRoom,
}: RefundStarterDeps): Promise<number> {
  const room = await readStartRoom();
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
