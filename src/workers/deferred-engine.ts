/** An engine for the time before Temporal can be reached: until then every call fails, and the relay stores orders ahead. */

import type { OrderEngine } from '../engine/order-engine.ts';

export function createDeferredEngine() {
  let engine: OrderEngine | undefined;

  async function connected(): Promise<OrderEngine> {
    if (!engine) throw new Error('Temporal has not been reached yet');
    return engine;
  }

  const deferred: Omit<OrderEngine, 'queryStatus'> = {
    start: async (order) => (await connected()).start(order),
    signalPaymentReceived: async (order) => (await connected()).signalPaymentReceived(order),
    signalCancelRequested: async (order) => (await connected()).signalCancelRequested(order),
    startRefund: async (refund) => (await connected()).startRefund(refund),
  };

  return {
    engine: deferred,
    /** From now on calls go to this one. */
    connect(reached: OrderEngine): void {
      engine = reached;
    },
  };
}
