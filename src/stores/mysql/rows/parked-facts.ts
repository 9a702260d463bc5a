/** Parked work: its kinds, its causes, and the facts that are kept with a cause. */

/**
 * payment: the rules could not settle it. refund: its refund workflow keeps failing. Both refer to the
 * provider's payment id, and each is unparked only by the code that parks its kind. outbox_entry refers to
 * `<sale>.<shard>/<entry id>`, because an entry's id is unique in its stream alone. sale refers to
 * `<sale> <SKU>`, whose stock does not add up, or to a sale that is not compared. delivery refers to
 * `<endpoint>/<event id>`, or to an endpoint that is gone.
 */
export const PARKED_KINDS = ['payment', 'refund', 'order', 'outbox_entry', 'sale', 'delivery'] as const;
export type ParkedKind = (typeof PARKED_KINDS)[number];

/**
 * Stable codes: why work was parked, each with the sentence that the shop's consumers get. The reason and the
 * errors of an entry are for operators alone, as they may name addresses inside. docs/operations.md says what
 * to do about each.
 */
export const PARKED_CAUSES = {
  step_failing: 'a step of the order or the refund keeps failing, and is tried again',
  refund_slow: 'the provider accepted the refund and has not finished it within a day',
  no_order_named: 'the payment names no order of any sale',
  wrong_amount: "the payment is not of the order's amount or currency",
  undecided: 'nothing could be decided about the payment for an hour, as its sale is not in Redis',
  order_damaged: 'Redis has the order, but not whole',
  order_lost: 'the order was accepted, and neither MySQL nor Redis has what is needed to go on',
  order_inconsistent: "the order's row, its events and its bookings contradict each other",
  stock_unexplained: 'counters, ledger and orders of a SKU contradict each other',
  sale_not_compared: 'the stores could not be compared for the sale, so drift in it is not seen',
  order_not_ours: 'the payment carries a signed order that is not ours',
  paid_order_refused: 'the order is paid, and MySQL refuses to store it',
  reversed: 'money went back that was not requested here; whether units may be sold again is open',
  reversed_before_applied: 'money of the payment went back before it paid for an order',
  refund_failed_later: 'a refund failed after it had succeeded',
  too_much_reversed: 'more goes back than was paid',
  workflow_stuck: "the order's workflow runs, long past its deadline, and does not end it",
  hold_lost: 'the order has ended, and the hold that was to be settled is not in Redis',
  outbox_entry_unreadable: 'Redis has no whole order of the number in the outbox',
  order_refused: 'the order lost its hold, and MySQL refuses its tombstone too',
  delivery_failing: 'no try of the schedule reached the endpoint',
  endpoint_gone: 'the endpoint answered that it is gone, and is disabled',
} as const;
type ParkedCause = keyof typeof PARKED_CAUSES;

/** Why it was parked, and what the step was given: ids and amounts, never other data of a person. */
export interface ParkedFacts {
  cause: ParkedCause;
  inputs: Record<string, string | number | boolean | null>;
}
