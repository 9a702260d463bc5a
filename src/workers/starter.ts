/** Loops that start or signal the workflows that MySQL has as due, of orders and of refunds. */

import { isFinal } from '../domain/order.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { DueRefund } from '../stores/mysql/money/refund-claims.ts';
import type { StoredOrder } from '../stores/mysql/rows/order-rows.ts';
import type { Stores } from '../stores/open.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { EngineGate } from './engine-gate.ts';
import type { Burst } from './outbox-follower.ts';

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
  burst: Pick<Burst, 'isOn'>;
}

/** @returns one pass of the starter's loop; the pass returns the pause before the next, in ms */
export function createStarter({ orderClaims, saleStock, engine, gate, burst }: StarterDeps) {
  const readStartRoom = gate.roomForStarts();
  /** Orders waited to be started when there was room for starts last. */
  let hasBacklog = true;

  async function startOrSignalAll(claimed: readonly StoredOrder[]): Promise<StoredOrder[]> {
    const admitted = await gate.admit(claimed, orderNoOf);
    const succeeded = await gate.run(admitted, orderNoOf, (stored) => startOrSignal(engine, stored));
    // No workflow may run that would give back the slot.
    await gate.release(
      succeeded.filter(({ state }) => isFinal(state.status)),
      orderNoOf,
    );
    await orderClaims.complete(succeeded);
    return succeeded;
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
    const claimed = await orderClaims.take(limit, startsMax, nowMs);
    if (startRoom > 0) hasBacklog = claimed.length === limit || claimed.some(isStart);
    const isYielding = hasBacklog && startRoom === 0 && !isBurst;
    if (claimed.length === 0) return isYielding ? YIELD_PAUSE_MS : IDLE_PAUSE_MS;
    let succeeded: StoredOrder[] = [];
    try {
      succeeded = await startOrSignalAll(claimed);
    } finally {
      await orderClaims.release(claimed.filter((stored) => !succeeded.includes(stored)));
    }
    return succeeded.length < claimed.length ? FULL_PAUSE_MS : 0;
  };
}

const orderNoOf = ({ order }: StoredOrder): string => order.orderNo;
const isStart = ({ state }: StoredOrder): boolean => state.payment === 'none' && state.reason === null;

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
}

/** @returns one pass of the starter's loop; the pass returns the pause before the next, in ms */
export function createRefundStarter({ refundClaims, engine, gate }: RefundStarterDeps) {
  const readStartRoom = gate.roomForStarts();

  async function startAll(claimed: readonly DueRefund[]): Promise<DueRefund[]> {
    const admitted = await gate.admit(claimed, slotOf);
    const succeeded = await gate.run(admitted, slotOf, (refund) => engine.startRefund(refund));
    await refundClaims.complete(succeeded);
    return succeeded;
  }

  return async function pass(): Promise<number> {
    const room = await readStartRoom();
    if (room === 0) return REFUNDS_FULL_PAUSE_MS;
    const claimed = await refundClaims.take(Math.min(room, REFUNDS_MAX));
    if (claimed.length === 0) return REFUNDS_IDLE_PAUSE_MS;
    let succeeded: DueRefund[] = [];
    try {
      succeeded = await startAll(claimed);
    } finally {
      const left = claimed.filter((refund) => !succeeded.includes(refund));
      if (left.length > 0) await refundClaims.release(left);
    }
    return REFUNDS_FULL_PAUSE_MS;
  };
}

/** The name of the refund's slot in the engine budget. The workflow releases it when it begins. */
const slotOf: (refund: DueRefund) => string = refundWorkflowId;
