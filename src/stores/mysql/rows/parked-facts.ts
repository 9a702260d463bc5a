/** Parked work: its kinds, its causes, and the facts that are kept with a cause. */

/**
 * payment: the rules could not settle it. refund: its refund workflow keeps failing. Both refer to the
 * provider's payment id, and each is unparked only by the code that parks its kind. outbox_entry refers to
 * `<sale>.<shard>/<entry id>`, because an entry's id is unique in its stream alone. sale refers to
 * `<sale> <SKU>`: its stock does not add up. delivery refers to `<endpoint>/<event id>`, or to an endpoint
 * that is gone.
 */
export const PARKED_KINDS = ['payment', 'refund', 'order', 'outbox_entry', 'sale', 'delivery'] as const;
export type ParkedKind = (typeof PARKED_KINDS)[number];

/** Stable codes: why work was parked. docs/operations.md says what to do about each. */
type ParkedCause =
  /** Order or refund: one of its steps keeps failing. */
  | 'step_failing'
  /** Refund: the provider accepted it and has not finished it within a day. */
  | 'refund_slow'
  /** Payment: it names no order of any sale of ours. */
  | 'no_order_named'
  /** Payment: not the order's amount or currency. */
  | 'wrong_amount'
  /** Payment: nothing could be decided about it for an hour, as its sale is not in Redis. */
  | 'undecided'
  /** Payment or order: Redis has the order, but not whole. */
  | 'order_damaged'
  /** Order: it was accepted, and neither MySQL nor Redis has what is needed to go on. */
  | 'order_lost'
  /** Order: its row, its events and its bookings contradict each other. */
  | 'order_inconsistent'
  /** Sale: counters, ledger and orders of a SKU contradict each other. */
  | 'stock_unexplained'
  /** Payment: it carries a signed order that is not ours. */
  | 'order_not_ours'
  /** Payment or outbox entry: its order is paid, and MySQL refuses to store it. */
  | 'paid_order_refused'
  /** Payment: money went back that was not requested here; whether units may be sold again is open. */
  | 'reversed'
  /** Payment: money of it went back before it paid for an order. */
  | 'reversed_before_applied'
  /** Payment: a refund failed after it had succeeded. */
  | 'refund_failed_later'
  /** Payment: more goes back than was paid. */
  | 'too_much_reversed'
  /** Order: its workflow runs, long past its deadline, and does not end it. */
  | 'workflow_stuck'
  /** Order: it has ended, and the hold that was to be settled is not in Redis. */
  | 'hold_lost'
  /** Outbox entry: Redis has no whole order of that number. */
  | 'outbox_entry_unreadable'
  /** Outbox entry: its order lost its hold, and MySQL refuses its tombstone too. */
  | 'order_refused'
  /** Delivery: no try of its schedule reached the endpoint. */
  | 'delivery_failing'
  /** Delivery: the endpoint answered that it is gone, and is disabled. */
  | 'endpoint_gone';

/** Why it was parked, and what the step was given: ids and amounts, never other data of a person. */
export interface ParkedFacts {
  cause: ParkedCause;
  inputs: Record<string, string | number | boolean | null>;
}
