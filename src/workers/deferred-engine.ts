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
    start: async (...args) => (await connected()).start(...args),
    signalPaymentReceived: async (...args) => (await connected()).signalPaymentReceived(...args),
    signalCancelRequested: async (...args) => (await connected()).signalCancelRequested(...args),
    signalEnded: async (orderNo) => (await connected()).signalEnded(orderNo),
    isRunning: async (...args) => (await connected()).isRunning(...args),
    listRunning: async (...args) => (await connected()).listRunning(...args),
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
