/**
 * Every code that a caller can be refused with: its status, the sentence that the answer has, what more there
 * is to know of it, and what to do. The table of docs/api.md and the pages that `type` leads to are rendered
 * from it.
 */

export const PROBLEMS = {
  /** What cannot be read, or is not as it must be. */
  malformed_request: {
    status: 400,
    says: 'The request or its JSON could not be read.',
    remedy: 'mend the client',
  },
  invalid_request: {
    status: 400,
    says: 'The request is not as it must be.',
    more: '`faults` lists `path` and `message` of each value that is wrong.',
    remedy: 'mend the value',
  },
  idempotency_key_missing: {
    status: 400,
    says: 'Send an Idempotency-Key: a fresh UUID for each request.',
    remedy: 'send one',
  },
  idempotency_key_invalid: {
    status: 400,
    says: 'An Idempotency-Key has 1 to 128 printable ASCII characters and no spaces.',
    remedy: 'use a UUID',
  },
  unknown_sku: {
    status: 400,
    says: 'The sale has no such SKU.',
    more: '`sku` names it.',
    remedy: 'read the sale again',
  },
  malformed_notice: {
    status: 400,
    says: 'The notice is authentic, and its shape is unknown.',
    remedy: "look into the API's log",
  },
  /** The caller's identity and rights. */
  unauthorized: {
    status: 401,
    says: 'The token is missing, or it is refused.',
    remedy: "get a new token; see `WWW-Authenticate` and the API's log",
  },
  invalid_signature: {
    status: 401,
    says: 'The notice is forged, stale or signed with another secret.',
    remedy: "compare the provider's secret with `WEBHOOK_SECRETS`",
  },
  forbidden: {
    status: 403,
    says: 'The token does not have the scope that this call needs.',
    more: '`scope` names it.',
    remedy: 'use a token of more rights; see [who may what](#who-may-what)',
  },
  /** What is not there. */
  no_such_resource: {
    status: 404,
    says: 'There is nothing at this address.',
    remedy: 'mend the path',
  },
  order_not_found: {
    status: 404,
    says: 'There is no such order.',
    more: 'A shopper is told the same of the orders of others.',
    remedy: 'forget it',
  },
  sale_not_found: {
    status: 404,
    says: 'There is no such sale.',
    more: 'Shoppers are told so of drafts, and of sales that ended long ago.',
    remedy: 'check the id',
  },
  payment_not_found: {
    status: 404,
    says: 'There is no such payment.',
    remedy: 'check the number',
  },
  refund_not_found: {
    status: 404,
    says: 'The order has no such refund.',
    remedy: 'check the number',
  },
  consumer_not_found: {
    status: 404,
    says: 'There is no consumer of this name.',
    remedy: 'check the name; its first commit makes it',
  },
  endpoint_not_found: {
    status: 404,
    says: 'There is no endpoint of this name.',
    remedy: 'check the name',
  },
  event_not_found: {
    status: 404,
    says: 'There is no such event in the feed.',
    remedy: 'check its id',
  },
  delivery_not_found: {
    status: 404,
    says: 'The endpoint has no such delivery.',
    more: 'Deliveries that ended long ago are deleted.',
    remedy: 'check the number',
  },
  parked_not_found: {
    status: 404,
    says: 'There is no such parked entry.',
    remedy: 'check the number',
  },
  /** The sale's rules. */
  sale_not_open_yet: {
    status: 403,
    says: 'The sale has not opened yet.',
    more: 'It opens at `opensAt`.',
    remedy: 'come back then; with `Retry-After`, after that: it is about to',
  },
  sale_paused: {
    status: 403,
    says: 'The sale is paused.',
    remedy: 'repeat after `Retry-After`',
  },
  sale_closed: {
    status: 403,
    says: 'The sale is over.',
    remedy: 'stop',
  },
  ticket_required: {
    status: 403,
    says: 'The sale takes orders with a ticket only.',
    remedy:
      'get a [ticket](#tickets) of the shop, or where `verification` asks for it [work for one](#tickets-that-are-worked-for)',
  },
  ticket_invalid: {
    status: 403,
    says: 'The ticket is refused.',
    more: '`reason` says why, see [Tickets](#tickets).',
    remedy: 'get another ticket',
  },
  verification_not_asked: {
    status: 409,
    says: 'Orders of this sale need no ticket that is worked for.',
    remedy: 'order without it',
  },
  challenge_invalid: {
    status: 403,
    says: 'The answer to the challenge is refused.',
    more: '`reason` is `expired`, `other_user`, `other_sale`, `forged` (the challenge is none of ours), `malformed` or `unsolved`.',
    remedy: 'get another challenge',
  },
  ticket_used: {
    status: 409,
    says: 'The ticket was used for another order of yours.',
    more: '`orderNo` is that order.',
    remedy: 'show that order, or get another ticket',
  },
  called_off: {
    status: 409,
    says: 'The shop has called this off for good.',
    more: '`sku` names it.',
    remedy: 'leave it out',
  },
  sold_out: {
    status: 409,
    says: 'There are not enough units left.',
    more: 'Of `sku`, `available` are free and unpaid orders hold `held`. If `held` is 0, the SKU is sold out. `openOrders` are those of this user.',
    remedy: 'pay one of `openOrders`, ask for fewer, or come back while some are held',
  },
  limit_reached: {
    status: 409,
    says: 'You have as many of this as one shopper may have.',
    more: '`limit` is the limit of `sku`, and the user has `bought`, held or owned. `openOrders` are unpaid.',
    remedy: 'pay one of `openOrders`, or ask for at most `limit - bought`',
  },
  sale_limit_reached: {
    status: 409,
    says: 'You have as many units of this sale as one shopper may have.',
    more: '`limit` is the limit of the sale, and the user has `bought`, held or owned. `openOrders` are unpaid.',
    remedy: 'pay one of `openOrders`, or ask for at most `limit - bought` units of all SKUs together',
  },
  too_many_unpaid: {
    status: 409,
    says: 'Too many orders of yours in this sale ended without a payment.',
    more: '`unpaid` orders did; the sale allows `limit`.',
    remedy: 'stop',
  },
  total_changed: {
    status: 409,
    says: 'The order comes to another total than the expected one.',
    more: 'It is `total`, in minor units of `currency`.',
    remedy: 'show it, and ask the shopper again',
  },
  total_not_payable: {
    status: 409,
    says: 'An order of this total could not be paid, so nothing is held.',
    more: 'The provider does not take `total`, in minor units of `currency`.',
    remedy: 'change the cart, or the charges of the ticket',
  },
  /** What a shop asks of its sale. */
  sale_rule_fixed: {
    status: 409,
    says: 'The sale is on, and this rule stays as it is.',
    more: '`path` names the rule, and `sku` the SKU that is missing.',
    remedy: 'make a new SKU, or leave it as it is',
  },
  sale_ended: {
    status: 409,
    says: 'The sale is closed or archived, and that is final.',
    remedy: 'make another sale',
  },
  sale_is_draft: {
    status: 409,
    says: 'The sale is a draft.',
    remedy: 'change or archive it',
  },
  sale_not_settled: {
    status: 409,
    says: 'The sale is not over, or some of its stock is still held.',
    remedy: 'archive it after `sale.settled`',
  },
  called_off_otherwise: {
    status: 409,
    says: 'It was called off before, on other terms.',
    more: '`restock` differs, or the whole sale was called off.',
    remedy: 'read how far that is',
  },
  not_called_off: {
    status: 404,
    says: 'The sale, or this SKU of it, is not called off.',
    remedy: 'check the id and `sku`',
  },
  stock_below_committed: {
    status: 409,
    says: 'More is held and sold than the new total.',
    more: '`committed` units of `sku` are.',
    remedy: 'send a total that is not below',
  },
  version_conflict: {
    status: 412,
    says: 'The sale is not in the state that the request expects.',
    more: 'It has `version`, and `null` says that there is none. `If-Match` or `If-None-Match` asks for another.',
    remedy: 'read the sale, decide again',
  },
  version_required: {
    status: 428,
    says: 'A change of stock names the version that it is made of.',
    more: '`If-Match` has it: a repeat must not count twice.',
    remedy: 'read the sale, send its `ETag` as `If-Match`',
  },
  idempotency_key_reused: {
    status: 422,
    says: 'This Idempotency-Key was used for another request.',
    remedy: 'use a fresh key for another purchase',
  },
  too_many_purchases: {
    status: 429,
    says: 'It was tried too often to buy.',
    more: 'The user, or its address where the sale says so, tried too often within a minute; `RateLimit` names which.',
    remedy: 'repeat after `Retry-After`',
  },
  /** The order's or the payment's state. */
  order_failed: {
    status: 409,
    says: 'The order could not be stored, and has failed.',
    more: 'The call waited for it; `order` shows it.',
    remedy: 'buy again with a fresh key',
  },
  not_yet_payable: {
    status: 409,
    says: 'The order is being stored; it can be paid in a moment.',
    remedy: 'repeat after `Retry-After`',
  },
  already_paid: {
    status: 409,
    says: 'The order has been paid.',
    more: '`order` shows it.',
    remedy: 'show the order',
  },
  not_payable: {
    status: 409,
    says: 'The order can no longer be paid.',
    more: 'It is closing, past its deadline, ended, refunded, or of a total that the provider does not take. `order` shows it.',
    remedy: 'show the order',
  },
  too_many_attempts: {
    status: 429,
    says: 'It was tried too often to pay.',
    more: 'Ten attempts for this order failed; or within an hour twenty of the user failed, or 120 pages were opened.',
    remedy: 'repeat after `Retry-After`',
  },
  not_extendable: {
    status: 409,
    says: 'The order does not wait for a payment any more.',
    more: '`order` shows it.',
    remedy: 'show the order',
  },
  deadline_out_of_range: {
    status: 409,
    says: 'A deadline is extended to a later time, at most a day after the reservation.',
    more: 'The time must be later than `after` and at most `until`.',
    remedy: 'ask for another time',
  },
  too_many_watchers: {
    status: 429,
    says: 'You wait for changes in too many calls at once.',
    remedy: 'poll meanwhile, repeat after `Retry-After`',
  },
  not_refundable: {
    status: 409,
    says: 'Nothing of this payment can be refunded now.',
    more: 'It went back already, its charges did, the order has as many refunds as may be, or the order is about to decide on it.',
    remedy: 'look at the payment',
  },
  not_retryable: {
    status: 409,
    says: 'Trying the parked work again changes nothing.',
    more: '`detail` says why.',
    remedy: 'decide about it, and resolve the entry',
  },
  not_rebuildable: {
    status: 409,
    says: 'The sale has never been on, or is long over: there is nothing to rebuild.',
    remedy: 'check the id',
  },
  not_refunded: {
    status: 409,
    says: 'Only what was paid and refunded can be sold again.',
    remedy: 'refund first',
  },
  refund_exceeds: {
    status: 409,
    says: 'So much of the money is not left to be refunded.',
    more: '`refundable` is, in minor units of `currency`.',
    remedy: 'refund what is left',
  },
  refund_exceeds_units: {
    status: 409,
    says: 'The order has not so many units left to refund.',
    more: 'Of `sku`, `refundable` are left.',
    remedy: 'refund those that are left',
  },
  refund_on_its_way: {
    status: 409,
    says: 'The money of the refund is back, or on its way.',
    remedy: 'nothing',
  },
  /** The feed of events. */
  position_ahead: {
    status: 409,
    says: 'There is no such event yet.',
    more: '`last` is the last one.',
    remedy: 'go on from what was read. After a restored backup: from `last`',
  },
  position_behind: {
    status: 409,
    says: 'The consumer has come further.',
    more: '`position` is where it is.',
    remedy: 'leave it; to read again, send `rewind`',
  },
  too_many_consumers: {
    status: 409,
    says: 'There are as many consumers as may be.',
    more: 'There are 50.',
    remedy: 'remove one',
  },
  /** The endpoints of push. */
  too_many_endpoints: {
    status: 409,
    says: 'There are as many endpoints as may be.',
    remedy: 'remove one',
  },
  endpoint_disabled: {
    status: 409,
    says: 'Nothing is sent to the endpoint while it is disabled.',
    remedy: 'enable it first',
  },
  replay_running: {
    status: 409,
    says: 'Another time is being replayed to the endpoint.',
    remedy: 'repeat when `replaying` is false',
  },
  /** HTTP's own. */
  method_not_allowed: {
    status: 405,
    says: 'The address does not take this method.',
    more: '`Allow` names those that it takes.',
    remedy: 'mend the method',
  },
  request_timeout: {
    status: 408,
    says: 'The request did not arrive in time.',
    remedy: 'send it again',
  },
  body_too_large: {
    status: 413,
    says: 'The body is larger than this call takes.',
    remedy: 'send less',
  },
  unsupported_media_type: {
    status: 415,
    says: 'Send the body as application/json, in UTF-8.',
    more: 'A `PATCH` may also be `application/merge-patch+json`.',
    remedy: 'set `Content-Type`',
  },
  unsupported_content_encoding: {
    status: 415,
    says: 'Send the body as it is, not compressed.',
    remedy: 'send it as it is',
  },
  expectation_failed: {
    status: 417,
    says: 'Only 100-continue can be expected.',
    remedy: 'leave the header out',
  },
  headers_too_large: {
    status: 431,
    says: 'The request has more or larger headers than are read.',
    remedy: 'send fewer',
  },
  /** Ours: nothing is wrong with the request. */
  internal_error: {
    status: 500,
    says: 'Something went wrong on our side.',
    more: 'The log has it.',
    remedy: 'repeat after `Retry-After`, a purchase with the same key',
  },
  overloaded: {
    status: 503,
    says: 'More is asked than can be answered in time; nothing was done.',
    remedy: 'repeat after `Retry-After` (1 to 4 seconds, spread)',
  },
  watchers_full: {
    status: 503,
    says: 'No more callers can wait for changes right now.',
    remedy: 'poll meanwhile, repeat after `Retry-After`',
  },
  keys_unavailable: {
    status: 503,
    says: 'The token cannot be judged right now.',
    more: 'The keys at `JWT_JWKS_URL` cannot be read, and the token is of none that is known.',
    remedy: 'repeat after `Retry-After`',
  },
  backlog_full: {
    status: 503,
    says: 'More orders wait than can be handled in time; nothing was taken.',
    more: 'Or Redis has no room for more.',
    remedy: 'repeat after `Retry-After`',
  },
  stock_unavailable: {
    status: 503,
    says: 'No order can be taken right now.',
    more: 'Redis is full.',
    remedy: 'repeat with the same key after `Retry-After`',
  },
  outcome_unknown: {
    status: 503,
    says: 'The order may or may not be accepted: repeat the request with the same Idempotency-Key.',
    more: 'A store did not answer. With `onTimeout`, the order may also be cancelled.',
    remedy: 'repeat **with the same key** until there is an answer',
  },
  sale_unavailable: {
    status: 503,
    says: 'The sale cannot be read right now.',
    remedy: 'repeat after `Retry-After`',
  },
  sale_change_unavailable: {
    status: 503,
    says: 'The sale cannot be changed right now; send it again.',
    more: 'The change may be recorded. Then it is made once.',
    remedy: 'repeat after `Retry-After`: it is made once',
  },
  status_unavailable: {
    status: 503,
    says: 'What is asked for cannot be read right now.',
    remedy: 'repeat after `Retry-After`',
  },
  cancel_unavailable: {
    status: 503,
    says: 'The cancel request may not be recorded; send it again.',
    remedy: 'repeat after `Retry-After`',
  },
  payment_unavailable: {
    status: 503,
    says: 'No payment can be started right now.',
    more: 'MySQL or the provider does not answer, or the provider refuses the page.',
    remedy: 'repeat after `Retry-After`',
  },
  inbox_unavailable: {
    status: 503,
    says: 'The notice could not be stored; send it again.',
    remedy: 'the provider sends it again',
  },
  decision_unavailable: {
    status: 503,
    says: 'The decision may not be recorded; send it again.',
    remedy: 'repeat after `Retry-After`',
  },
  events_unavailable: {
    status: 503,
    says: 'The events cannot be read right now.',
    remedy: 'repeat after `Retry-After`',
  },
  endpoints_unavailable: {
    status: 503,
    says: 'The endpoints cannot be read or changed right now.',
    remedy: 'repeat after `Retry-After`',
  },
  /** The caller's own time was over. */
  wait_timed_out: {
    status: 504,
    says: 'The order was not stored in time, and is being cancelled.',
    more: '`orderNo` is the order.',
    remedy: 'look at the order, or buy again with a fresh key',
  },
} as const satisfies Record<string, { status: number; says: string; more?: string; remedy: string }>;

type Problems = typeof PROBLEMS;

export type ProblemCode = keyof Problems;

/** Those that say that a store or the provider did not answer. */
export type UnavailableCode = {
  [Code in ProblemCode]: Problems[Code]['status'] extends 503 ? Code : never;
}[ProblemCode];

/** The address of the page about a code, at this API. */
export function problemType(code: ProblemCode): string {
  return `/problems/${code}`;
}

/** For who reads about it. */
export function meaningOf(code: ProblemCode): string {
  const { says, more }: { says: string; more?: string } = PROBLEMS[code];
  return more === undefined ? says : `${says} ${more}`;
}

export function titleOf(code: ProblemCode): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
