/**
 * An order engine that exists before Temporal is reached. Until then every call fails, so that the relay
 * stores orders ahead.
 */

import type { OrderEngine } from '../engine/order-engine.ts';

export function createDeferredEngine() {
  let engine: OrderEngine | undefined;

  async function connected(): Promise<OrderEngine> {
    if (!engine) throw new Error('Temporal has not been reached yet');
    return engine;
  }

  const deferred: Omit<OrderEngine, 'queryStatus'> = {
    start: async (order, storedAhead) => (await connected()).start(order, storedAhead),
    signalPaymentReceived: async (order) => (await connected()).signalPaymentReceived(order),
    signalCancelRequested: async (order) => (await connected()).signalCancelRequested(order),
    isRunning: async (orderNo) => (await connected()).isRunning(orderNo),
    startRefund: async (refund) => (await connected()).startRefund(refund),
  };

  return {
    engine: deferred,
    /** Later calls go to this engine. */
    connect(reached: OrderEngine): void {
      engine = reached;
    },
  };
}
