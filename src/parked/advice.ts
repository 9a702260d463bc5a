/** What staff are to do about parked work, by its cause. */

import type { ParkedCause } from './parked.sql.ts';

const DECIDE =
  'The rules have decided what they can: refund the payment, or settle it by hand and resolve the entry.';

const ADVICE: Record<ParkedCause, string> = {
  step_failing:
    'Mend what the last error names. The step goes on trying by itself; a retry has it tried at once.',
  refund_slow: 'Ask the provider. The refund ends here by itself when it ends there.',
  refund_unclear:
    'Look the refund up at the provider: the entry ends with it. If it never arrives, refund the amount once more.',
  refund_refused:
    'Mend what the provider names, then retry. Or have the refund withdrawn, and pay back by hand only then: it is sent again when the provider takes it.',
  no_order_named: DECIDE,
  wrong_amount: DECIDE,
  reversed: 'Decide whether the units may be sold again: return the stock, or resolve to leave them sold.',
  reversed_before_applied: DECIDE,
  refund_failed_later: 'The refund is tried again by itself. See why it failed at the provider.',
  too_much_reversed: 'Ask the provider why more went back than was paid, and resolve when that is settled.',
  undecided: 'Bring the sale back to Redis. The payment is matched or refunded after that.',
  order_damaged: DECIDE,
  order_lost:
    'Inform the shopper that the order is lost. Money for it goes back by itself. Then resolve the entry.',
  order_inconsistent:
    'Put right what was changed by hand. The entry ends when row, events and bookings agree.',
  stock_unexplained: 'Put right the order that contradicts itself. The entry ends when the books agree.',
  sale_not_compared: 'See the reason. The entry ends when the stores are compared again.',
  order_not_ours: DECIDE,
  paid_order_refused: 'See why MySQL refuses the order, then retry.',
  workflow_stuck: 'See in the Web UI why its workflow does not go on. Terminate it, and it is started again.',
  hold_lost: 'Find who deletes keys in Redis, then retry.',
  order_refused: 'See why MySQL refuses the order, then retry.',
  delivery_failing:
    "Mend the shop's endpoint, then retry, or replay the event. A later event of the order may have gone.",
  endpoint_gone: 'If the endpoint is to go on, a retry enables it. Else remove it.',
  outbox_entry_unreadable: 'If its order is whole again in Redis, retry. Else resolve the entry.',
};

/** @param cause also one that a former release has parked for */
export function adviceOn(cause: string): string {
  const known: Partial<Record<string, string>> = ADVICE;
  return known[cause] ?? 'See the reason. A retry tries it again, and resolving ends the entry.';
}
