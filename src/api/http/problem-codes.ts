/**
 * Every code that a problem document can carry, each with the one status that it is sent with. Codes are a
 * promise to callers: docs/api.md says of each what it means and what to do.
 */

export const PROBLEM_STATUS = {
  /** What cannot be read, or is not as it must be. */
  malformed_request: 400,
  invalid_request: 400,
  idempotency_key_missing: 400,
  idempotency_key_invalid: 400,
  unknown_sku: 400,
  malformed_notice: 400,
  /** The caller's identity and rights. */
  unauthorized: 401,
  invalid_signature: 401,
  forbidden: 403,
  /** What is not there. */
  no_such_resource: 404,
  order_not_found: 404,
  sale_not_found: 404,
  payment_not_found: 404,
  refund_not_found: 404,
  consumer_not_found: 404,
  endpoint_not_found: 404,
  event_not_found: 404,
  /** The sale's rules. */
  sale_not_open_yet: 403,
  sale_paused: 403,
  sale_closed: 403,
  ticket_required: 403,
  ticket_invalid: 403,
  ticket_used: 409,
  sold_out: 409,
  limit_reached: 409,
  sale_limit_reached: 409,
  total_changed: 409,
  /** What a shop asks of its sale. */
  sale_rule_fixed: 409,
  sale_ended: 409,
  sale_is_draft: 409,
  sale_not_settled: 409,
  stock_below_committed: 409,
  version_conflict: 412,
  idempotency_key_reused: 422,
  /** The order's or the payment's state. */
  not_yet_payable: 409,
  already_paid: 409,
  not_payable: 409,
  too_many_attempts: 429,
  not_refundable: 409,
  not_refunded: 409,
  refund_exceeds: 409,
  refund_exceeds_units: 409,
  refund_on_its_way: 409,
  /** The feed of events. */
  position_ahead: 409,
  position_behind: 409,
  too_many_consumers: 409,
  /** The endpoints of push. */
  too_many_endpoints: 409,
  endpoint_disabled: 409,
  replay_running: 409,
  /** HTTP's own. */
  method_not_allowed: 405,
  request_timeout: 408,
  body_too_large: 413,
  unsupported_media_type: 415,
  unsupported_content_encoding: 415,
  expectation_failed: 417,
  headers_too_large: 431,
  /** Ours: nothing is wrong with the request. */
  internal_error: 500,
  overloaded: 503,
  keys_unavailable: 503,
  backlog_full: 503,
  stock_unavailable: 503,
  outcome_unknown: 503,
  sale_unavailable: 503,
  sale_change_unavailable: 503,
  status_unavailable: 503,
  cancel_unavailable: 503,
  payment_unavailable: 503,
  inbox_unavailable: 503,
  decision_unavailable: 503,
  events_unavailable: 503,
  endpoints_unavailable: 503,
} as const;

type Statuses = typeof PROBLEM_STATUS;

export type ProblemCode = keyof Statuses;

/** Those that say that a store or the provider did not answer. */
export type UnavailableCode = {
  [Code in ProblemCode]: Statuses[Code] extends 503 ? Code : never;
}[ProblemCode];
