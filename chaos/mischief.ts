/** The mischief that the provider makes during a trial, and how often each of its switches struck. */

import type { MischiefReply, MischiefSettings } from '../sandbox/book/mischief.ts';
import type { SandboxConsole } from '../sandbox/console.ts';
import { PAYMENT_WINDOW_MS } from './sale.ts';

/** Callbacks that are held back are overtaken by others, also of the same order. */
const REORDER_MS = 4_000;
/** Late money meets an order that was cancelled when its window was over. */
const LATE_MS = PAYMENT_WINDOW_MS + 5_000;
/** About as long as the first pause of a refund that is under way. */
const SLOW_REFUND_MS = 5_000;

export type Struck = MischiefReply['struck'];

function mischiefOf(seed: number): MischiefSettings {
  return {
    duplicate: 0.2,
    reorder: 0.2,
    reorder_ms: REORDER_MS,
    drop: 0.1,
    late: 0.1,
    late_ms: LATE_MS,
    wrong_amount: 0.02,
    refund_refused: 0.1,
    slow_refund: 0.1,
    slow_refund_ms: SLOW_REFUND_MS,
    rate_limited: 0.02,
    seed,
  };
}

/**
 * From now on, and through the provider's restarts.
 * @returns a reader of how often each switch struck since
 */
export async function startMischief(
  providerConsole: SandboxConsole,
  seed: number,
): Promise<() => Promise<Struck>> {
  const { struck: before } = await providerConsole.setMischief(mischiefOf(seed));
  return async () => {
    const { struck } = await providerConsole.readMischief();
    return {
      duplicate: struck.duplicate - before.duplicate,
      reorder: struck.reorder - before.reorder,
      drop: struck.drop - before.drop,
      late: struck.late - before.late,
      wrong_amount: struck.wrong_amount - before.wrong_amount,
      refund_refused: struck.refund_refused - before.refund_refused,
      slow_refund: struck.slow_refund - before.slow_refund,
      rate_limited: struck.rate_limited - before.rate_limited,
    };
  };
}
