/** Brings to Temporal the payments that MySQL says are due there: money to be sent back, or something to be given back for it. */

import type { OrderEngine } from '../engine/order-engine.ts';
import type { DueRefund, RefundClaims } from '../stores/mysql/money/refund-claims.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { EngineGate } from './engine-gate.ts';

/** Refunds per pass: few, for shoppers who want to pay share the engine, and the provider counts calls a second. */
const CLAIM_MAX = 10;
/** With nothing due, how often to look: money that goes back takes days, so a second is nothing. */
const IDLE_PAUSE_MS = 1_000;
/** Between full passes, and with the engine full: so about fifty a second are begun at most. */
const FULL_PAUSE_MS = 200;

export interface RefundStarterDeps {
  refundClaims: Pick<RefundClaims, 'take' | 'complete' | 'release'>;
  engine: Pick<OrderEngine, 'startRefund'>;
  gate: EngineGate;
}

/** @returns one pass of the starter's loop; it answers the pause before the next */
export function createRefundStarter({ refundClaims, engine, gate }: RefundStarterDeps) {
  async function startAll(claimed: readonly DueRefund[]): Promise<DueRefund[]> {
    const admitted = await gate.admit(claimed, slotOf);
    const succeeded = await gate.run(admitted, slotOf, (refund) => engine.startRefund(refund));
    await refundClaims.complete(succeeded);
    return succeeded;
  }

  return async function pass(): Promise<number> {
    const room = await gate.room();
    if (room === 0) return FULL_PAUSE_MS;
    const claimed = await refundClaims.take(Math.min(room, CLAIM_MAX));
    if (claimed.length === 0) return IDLE_PAUSE_MS;
    let succeeded: DueRefund[] = [];
    try {
      succeeded = await startAll(claimed);
    } finally {
      const left = claimed.filter((refund) => !succeeded.includes(refund));
      if (left.length > 0) await refundClaims.release(left);
    }
    return FULL_PAUSE_MS;
  };
}

/** The refund's place in the engine budget, which its first step gives back. */
const slotOf = ({ paymentId }: DueRefund): string => refundWorkflowId(paymentId);
