/**
 * Brings to Temporal what MySQL says is due: orders stored ahead whose workflow is yet to be started, and orders whose
 * workflow has not heard of money or of a cancel because the API could not tell it.
 */

import { isFinal } from '../domain/order.ts';
import type { StartOutcome, OrderEngine } from '../engine/order-engine.ts';
import type { OrderClaims } from '../stores/mysql/orders/order-claims.ts';
import type { Orders } from '../stores/mysql/orders/orders.ts';
import type { StoredOrder } from '../stores/mysql/rows/order-rows.ts';
import type { EngineGate } from './engine-gate.ts';

/** Orders per pass: about what the engine takes in a second, so that a claim is never held long. */
const CLAIM_MAX = 50;
/** With nothing due, how often to look; a due order has waited for seconds already. */
const IDLE_PAUSE_MS = 200;
/** With the engine full, how soon to look again: a step of a workflow takes about so long. */
const FULL_PAUSE_MS = 20;

export interface StarterDeps {
  orders: Pick<Orders, 'read' | 'park'>;
  orderClaims: Pick<OrderClaims, 'take' | 'complete' | 'release'>;
  engine: Pick<OrderEngine, 'start' | 'signalPaymentReceived' | 'signalCancelRequested'>;
  gate: EngineGate;
}

/** @returns one pass of the starter's loop; it answers the pause before the next */
export function createStarter({ orders, orderClaims, engine, gate }: StarterDeps) {
  /** Somebody terminated it, say in the Web UI: the order would wait for ever, so a person must know. */
  async function parkUnsettled({ order }: StoredOrder): Promise<void> {
    const current = await orders.read(order.orderNo);
    if (current && !isFinal(current.state.status)) {
      await orders.park(order.orderNo, 'its workflow has ended without settling it');
    }
  }

  async function startOrSignalAll(claimed: readonly StoredOrder[]): Promise<StoredOrder[]> {
    const ended: StoredOrder[] = [];
    const admitted = await gate.admit(claimed, orderNoOf);
    const succeeded = await gate.run(admitted, orderNoOf, async (stored) => {
      if ((await startOrSignal(engine, stored)) === 'ended') ended.push(stored);
    });
    for (const stored of ended) await parkUnsettled(stored);
    await orderClaims.complete(succeeded);
    return succeeded;
  }

  return async function pass(): Promise<number> {
    const room = await gate.room();
    if (room === 0) return FULL_PAUSE_MS;
    const claimed = await orderClaims.take(Math.min(room, CLAIM_MAX));
    if (claimed.length === 0) return IDLE_PAUSE_MS;
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

/** Money first: it also decides a cancel. */
function startOrSignal(engine: StarterDeps['engine'], { order, state }: StoredOrder): Promise<StartOutcome> {
  if (state.payment === 'received') return engine.signalPaymentReceived(order);
  if (state.reason !== null) return engine.signalCancelRequested(order);
  return engine.start(order);
}
