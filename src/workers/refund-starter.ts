/**
 * Starts or signals the refund workflows of payments that MySQL has as due: because the payment is to be
 * refunded, or because its order gives back a limit or stock.
 */

import type { OrderEngine } from '../engine/order-engine.ts';
import type { DueRefund } from '../stores/mysql/money/refund-claims.ts';
import type { Stores } from '../stores/open.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import type { EngineGate } from './engine-gate.ts';

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
