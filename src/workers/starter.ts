/**
 * Starts or signals the workflows of orders that MySQL has as due: orders stored ahead whose workflow is yet
 * to be started, and orders whose workflow the API could not signal about a payment or a cancel. What is not
 * begun within a third of its window is left to the ender, unless it has money or is to be cancelled.
 */

import { isFinal } from '../domain/order.ts';
import type { OrderEngine } from '../engine/order-engine.ts';
import type { StoredOrder } from '../stores/mysql/rows/order-rows.ts';
import type { Stores } from '../stores/open.ts';
import type { Burst } from './burst.ts';
import type { EngineGate } from './engine-gate.ts';

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
