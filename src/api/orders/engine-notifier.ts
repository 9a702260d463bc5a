/**
 * Signals an order's workflow as soon as MySQL has recorded a payment or a wish to cancel; the caller does
 * not wait for it. A signal that is not sent (no room in the engine, Temporal away, this process dead) is
 * sent by the relay, from MySQL.
 */

import type { OrderEngine } from '../../engine/order-engine.ts';
import type { StoredOrder } from '../../stores/mysql/rows/order-rows.ts';
import type { Stores } from '../../stores/open.ts';

/** Notifications under way in this process; the relay takes the rest two seconds later. */
const IN_FLIGHT_MAX = 64;

export interface NotifierDeps extends Stores {
  engine: Pick<OrderEngine, 'signalPaymentReceived' | 'signalCancelRequested'>;
}

export type EngineNotifier = ReturnType<typeof createEngineNotifier>;

export function createEngineNotifier({ engine, budget, reservations, log }: NotifierDeps) {
  const inFlight = new Set<Promise<void>>();

  async function notify(
    { order, state, windowEndsAtMs }: StoredOrder,
    signal: OrderEngine['signalPaymentReceived'],
  ): Promise<void> {
    const { orderNo } = order;
    try {
      await reservations.project(orderNo, state);
      if ((await budget.acquire([orderNo])).length === 0) return;
      try {
        await signal(order, windowEndsAtMs, state);
      } catch (error) {
        await budget.release([orderNo]);
        throw error;
      }
    } catch (error) {
      log.warn({ err: error, orderNo }, 'the workflow was not signalled; the relay will do it');
    }
  }

  function inBackground(work: () => Promise<void>): void {
    if (inFlight.size >= IN_FLIGHT_MAX) return;
    const running = work().finally(() => inFlight.delete(running));
    inFlight.add(running);
  }

  return {
    paymentReceived: (stored: StoredOrder): void =>
      inBackground(() => notify(stored, engine.signalPaymentReceived)),

    cancelRequested: (stored: StoredOrder): void =>
      inBackground(() => notify(stored, engine.signalCancelRequested)),

    /** For an ordered shutdown: what is under way is finished. */
    async drain(): Promise<void> {
      await Promise.all(inFlight);
    },
  };
}
