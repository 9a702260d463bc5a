/** What an operator can do about parked work, by its cause. docs/operations.md says the same at length. */

import type { ParkedEntry } from '../stores/mysql/ops/parked-work.ts';

const DECIDE =
  'the rules have decided what they can: send the money back with `ops refund`, or settle it by hand and resolve';
const STEP =
  'mend what the last error names; the step goes on trying by itself, `ops parked retry` has it tried at once';

const ADVICE: Record<string, string> = {
  step_failing: STEP,
  refund_slow: 'ask the provider; the refund ends here by itself when it ends there',
  no_order_named: DECIDE,
  wrong_amount: DECIDE,
  reversed: 'decide whether the units may be sold again: `ops return-stock`, or resolve to leave them sold',
  reversed_before_applied: DECIDE,
  refund_failed_later: 'the refund is tried again by itself; see why it failed at the provider',
  too_much_reversed: 'ask the provider why more went back than was paid, and resolve when that is settled',
  undecided: 'bring the sale back to Redis; the payment is matched or refunded after that',
  order_damaged: DECIDE,
  order_lost: 'inform the shopper that the order is lost; money for it goes back by itself; then resolve',
  order_inconsistent:
    'put right what was changed by hand; the entry ends when row, events and bookings agree',
  stock_unexplained: 'put right the order that contradicts itself; the entry ends when the books agree',
  sale_not_compared: 'see the reason; the entry ends when the stores are compared again',
  order_not_ours: DECIDE,
  paid_order_refused: 'see why MySQL refuses the order, then `ops parked retry`',
  workflow_stuck: 'see in the Web UI why its workflow does not go on; terminate it, and it is started again',
  order_refused: 'see why MySQL refuses the order, then `ops parked retry`',
  delivery_failing:
    "mend the shop's endpoint, then `ops parked retry`, or replay by the API; a later event of the order may have gone",
  endpoint_gone: 'where the endpoint is to go on, `ops parked retry` enables it; else remove it by the API',
  outbox_entry_unreadable: 'where its order is whole again in Redis, `ops parked retry`; else resolve',
};

export function adviceOn({ cause, parkedId }: ParkedEntry): string {
  const what =
    ADVICE[cause] ?? 'see the reason; `ops parked retry` tries again, `ops parked resolve` ends it';
  return `${what} (entry ${parkedId})`;
}
