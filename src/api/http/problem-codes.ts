/**
 * Every code that a caller can be refused with: its status, what it means, and what to do. The table of
 * docs/api.md and the pages that `type` leads to are rendered from it.
 */

export const PROBLEMS = {
  /** What cannot be read, or is not as it must be. */
  malformed_request: {
    status: 400,
    means: 'the request or its JSON could not be read',
    remedy: 'mend the client',
  },
  invalid_request: {
    status: 400,
    means:
      'a value is not as it must be, or the body is no object; `faults` lists `path` and `message` of each',
    remedy: 'mend the value',
  },
  idempotency_key_missing: {
    status: 400,
    means: 'a purchase without `Idempotency-Key`',
    remedy: 'send one',
  },
  idempotency_key_invalid: {
    status: 400,
    means: 'the key does not match its pattern',
    remedy: 'use a UUID',
  },
  unknown_sku: {
    status: 400,
    means: 'the sale does not have `sku`',
    remedy: 'read the sale again',
  },
  malformed_notice: {
    status: 400,
    means: 'an authentic webhook of an unknown shape',
    remedy: "look into the API's log",
  },
  /** The caller's identity and rights. */
  unauthorized: {
    status: 401,
    means: 'no token, or one that is refused',
    remedy: "get a new token; see `WWW-Authenticate` and the API's log",
  },
  invalid_signature: {
    status: 401,
    means: 'a webhook that is forged, stale or signed with another secret',
    remedy: "compare the provider's secret with `WEBHOOK_SECRETS`",
  },
  forbidden: {
    status: 403,
    means: 'the token lacks `scope`',
    remedy: 'use a token of more rights; see [who may what](#who-may-what)',
  },
  /** What is not there. */
  no_such_resource: {
    status: 404,
    means: 'no such address',
    remedy: 'mend the path',
  },
  order_not_found: {
    status: 404,
    means: 'no such order of this user',
    remedy: 'forget it',
  },
  sale_not_found: {
    status: 404,
    means: 'no such sale, or it is a draft, or long over. It is never said to be sold out',
    remedy: 'check the id',
  },
  payment_not_found: {
    status: 404,
    means: 'no such payment',
    remedy: 'check the number',
  },
  refund_not_found: {
    status: 404,
    means: 'the order has no such refund',
    remedy: 'check the number',
  },
  consumer_not_found: {
    status: 404,
    means: 'no consumer of that name',
    remedy: 'check the name; its first commit makes it',
  },
  endpoint_not_found: {
    status: 404,
    means: 'no endpoint of this name',
    remedy: 'check the name',
  },
  event_not_found: {
    status: 404,
    means: 'no such event in the feed',
    remedy: 'check its id',
  },
  /** The sale's rules. */
  sale_not_open_yet: {
    status: 403,
    means: 'the sale opens at `opensAt`',
    remedy: 'come back then; with `Retry-After`, after that: it is about to',
  },
  sale_paused: {
    status: 403,
    means: 'the shop has paused the sale',
    remedy: 'repeat after `Retry-After`',
  },
  sale_closed: {
    status: 403,
    means: 'the sale is over',
    remedy: 'stop',
  },
  ticket_required: {
    status: 403,
    means: 'the sale takes orders with a ticket only',
    remedy:
      'get a [ticket](#tickets) of the shop, or where `verification` asks for it [work for one](#tickets-that-are-worked-for)',
  },
  ticket_invalid: {
    status: 403,
    means: 'the ticket is refused; `reason` says why, see [Tickets](#tickets)',
    remedy: 'get another ticket',
  },
  verification_not_asked: {
    status: 409,
    means: 'orders of this sale need no ticket that is worked for',
    remedy: 'order without it',
  },
  challenge_invalid: {
    status: 403,
    means:
      'the answer to the challenge is refused; `reason` is `expired`, `other_user`, `other_sale`, `forged` (none of our challenges), `malformed` or `unsolved`',
    remedy: 'get another challenge',
  },
  ticket_used: {
    status: 409,
    means: 'the ticket was spent by `orderNo`, another order of this user',
    remedy: 'show that order, or get another ticket',
  },
  called_off: {
    status: 409,
    means: 'the shop has called `sku` off, for good',
    remedy: 'leave it out',
  },
  sold_out: {
    status: 409,
    means:
      'fewer than asked for are left of `sku`: `available`; unpaid orders hold `held`, with 0 all are sold; `openOrders` are those of this user',
    remedy: 'pay one of `openOrders`, ask for fewer, or come back while some are held',
  },
  limit_reached: {
    status: 409,
    means: '`limit` of `sku` for each user; this one has `bought`, held or owned; `openOrders` are unpaid',
    remedy: 'pay one of `openOrders`, or ask for at most `limit - bought`',
  },
  sale_limit_reached: {
    status: 409,
    means:
      '`limit` units of the sale for each user; this one has `bought`, held or owned; `openOrders` are unpaid',
    remedy: 'pay one of `openOrders`, or ask for at most `limit - bought` units of all SKUs together',
  },
  too_many_unpaid: {
    status: 409,
    means: '`unpaid` orders of this user ended without a payment, and the sale allows `limit`',
    remedy: 'stop',
  },
  total_changed: {
    status: 409,
    means: 'not the expected total; it is `total`, in minor units of `currency`',
    remedy: 'show it, and ask the shopper again',
  },
  total_not_payable: {
    status: 409,
    means: 'the provider takes no such `total`, in minor units of `currency`; nothing is held',
    remedy: 'change the cart, or the charges of the ticket',
  },
  /** What a shop asks of its sale. */
  sale_rule_fixed: {
    status: 409,
    means: 'the sale is on, so what `path` names stays; `sku` where one is missing',
    remedy: 'make a new SKU, or leave it as it is',
  },
  sale_ended: {
    status: 409,
    means: 'the sale is closed or archived: that is final',
    remedy: 'make another sale',
  },
  sale_is_draft: {
    status: 409,
    means: 'a draft cannot be paused, resumed or closed',
    remedy: 'change or archive it',
  },
  sale_not_settled: {
    status: 409,
    means: 'the sale is not over, or some of its stock is still held',
    remedy: 'archive it after `sale.settled`',
  },
  called_off_otherwise: {
    status: 409,
    means: 'it was called off before, with another `restock`, or with the whole sale',
    remedy: 'read how far that is',
  },
  not_called_off: {
    status: 404,
    means: 'the sale, or this SKU of it, is not called off',
    remedy: 'check the id and `sku`',
  },
  stock_below_committed: {
    status: 409,
    means: '`committed` units of `sku` are held and sold, more than the new total',
    remedy: 'send a total that is not below',
  },
  version_conflict: {
    status: 412,
    means:
      'the sale has `version`, `null` where there is none, and `If-Match` or `If-None-Match` asks for another',
    remedy: 'read the sale, decide again',
  },
  idempotency_key_reused: {
    status: 422,
    means: 'the key was used for another request',
    remedy: 'use a fresh key for another purchase',
  },
  too_many_purchases: {
    status: 429,
    means:
      'the user, or its address where the sale says so, has tried to buy too often within a minute; `RateLimit` names which',
    remedy: 'repeat after `Retry-After`',
  },
  /** The order's or the payment's state. */
  order_failed: {
    status: 409,
    means: 'while the call waited, the order could not be stored; `order` shows the order',
    remedy: 'buy again with a fresh key',
  },
  not_yet_payable: {
    status: 409,
    means: 'the order is being stored',
    remedy: 'repeat after `Retry-After`',
  },
  already_paid: {
    status: 409,
    means: 'money has come; `order` shows the order',
    remedy: 'show the order',
  },
  not_payable: {
    status: 409,
    means:
      'closing, past its deadline, ended, refunded, or of a total that the provider does not take; `order` shows the order',
    remedy: 'show the order',
  },
  too_many_attempts: {
    status: 429,
    means:
      'ten attempts to pay for the order have failed; or within an hour twenty of the user, or 120 pages were opened',
    remedy: 'repeat after `Retry-After`',
  },
  not_extendable: {
    status: 409,
    means: 'the order is paid, closing or has ended; `order` shows it',
    remedy: 'show the order',
  },
  deadline_out_of_range: {
    status: 409,
    means: 'a deadline may be extended to later than `after`, up to `until`',
    remedy: 'ask for another time',
  },
  too_many_watchers: {
    status: 429,
    means: 'the user waits for changes in too many calls at once',
    remedy: 'poll meanwhile, repeat after `Retry-After`',
  },
  not_refundable: {
    status: 409,
    means: 'the payment went back already, or its order is about to decide on it',
    remedy: 'look at the payment',
  },
  not_refunded: {
    status: 409,
    means: 'only units that were paid and refunded can be sold again',
    remedy: 'refund first',
  },
  refund_exceeds: {
    status: 409,
    means: 'not so much of the money is left to be refunded: `refundable`, `currency`',
    remedy: 'refund what is left',
  },
  refund_exceeds_units: {
    status: 409,
    means: 'not so many units are left that were not refunded: `sku`, `refundable`',
    remedy: 'refund those that are left',
  },
  refund_on_its_way: {
    status: 409,
    means: 'the money of the refund is back, or may be',
    remedy: 'nothing',
  },
  /** The feed of events. */
  position_ahead: {
    status: 409,
    means: 'there is no such event yet; `last` is the last one',
    remedy: 'go on from what was read. After a restored backup: from `last`',
  },
  position_behind: {
    status: 409,
    means: 'the consumer has come to `position`, which is further',
    remedy: 'leave it; to read again, send `rewind`',
  },
  too_many_consumers: {
    status: 409,
    means: 'there are 50 consumers',
    remedy: 'remove one',
  },
  /** The endpoints of push. */
  too_many_endpoints: {
    status: 409,
    means: 'there are as many endpoints as may be',
    remedy: 'remove one',
  },
  endpoint_disabled: {
    status: 409,
    means: 'nothing is sent to the endpoint',
    remedy: 'enable it first',
  },
  replay_running: {
    status: 409,
    means: 'another time is being replayed to the endpoint',
    remedy: 'repeat when `replaying` is false',
  },
  /** HTTP's own. */
  method_not_allowed: {
    status: 405,
    means: 'the address exists, the method does not; `Allow` names those that work',
    remedy: 'mend the method',
  },
  request_timeout: {
    status: 408,
    means: 'the request did not arrive in time',
    remedy: 'send it again',
  },
  body_too_large: {
    status: 413,
    means: 'more bytes than the call takes',
    remedy: 'send less',
  },
  unsupported_media_type: {
    status: 415,
    means: 'not `application/json` in UTF-8',
    remedy: 'set `Content-Type`',
  },
  unsupported_content_encoding: {
    status: 415,
    means: 'a compressed body',
    remedy: 'send it as it is',
  },
  expectation_failed: {
    status: 417,
    means: 'an `Expect` other than `100-continue`',
    remedy: 'leave the header out',
  },
  headers_too_large: {
    status: 431,
    means: 'more or larger headers than are read',
    remedy: 'send fewer',
  },
  /** Ours: nothing is wrong with the request. */
  internal_error: {
    status: 500,
    means: 'a fault of ours; the log has it',
    remedy: 'repeat after `Retry-After`, a purchase with the same key',
  },
  overloaded: {
    status: 503,
    means: 'too many calls at once; nothing was done',
    remedy: 'repeat after `Retry-After` (1 to 4 seconds, spread)',
  },
  watchers_full: {
    status: 503,
    means: 'the API has as many callers that wait for changes as it takes',
    remedy: 'poll meanwhile, repeat after `Retry-After`',
  },
  keys_unavailable: {
    status: 503,
    means: 'the keys at `JWT_JWKS_URL` cannot be read, and the token is of none that is known',
    remedy: 'repeat after `Retry-After`',
  },
  backlog_full: {
    status: 503,
    means: 'more orders wait than can be stored in time, or Redis has no room for more; nothing was taken',
    remedy: 'repeat after `Retry-After`',
  },
  stock_unavailable: {
    status: 503,
    means: 'Redis is full; no order can be taken',
    remedy: 'repeat with the same key after `Retry-After`',
  },
  outcome_unknown: {
    status: 503,
    means: 'Redis did not answer: the order may or may not be accepted',
    remedy: 'repeat **with the same key** until there is an answer',
  },
  sale_unavailable: {
    status: 503,
    means: 'the sale cannot be read right now',
    remedy: 'repeat after `Retry-After`',
  },
  sale_change_unavailable: {
    status: 503,
    means: 'the change of the sale could not be made at once; it may be recorded, and is made then',
    remedy: 'repeat after `Retry-After`: it is made once',
  },
  status_unavailable: {
    status: 503,
    means: 'the order cannot be read right now',
    remedy: 'repeat after `Retry-After`',
  },
  cancel_unavailable: {
    status: 503,
    means: 'the wish to cancel could not be recorded',
    remedy: 'repeat after `Retry-After`',
  },
  payment_unavailable: {
    status: 503,
    means: 'MySQL or the provider does not answer, or the provider refuses the page',
    remedy: 'repeat after `Retry-After`',
  },
  inbox_unavailable: {
    status: 503,
    means: 'a webhook could not be stored',
    remedy: 'the provider sends it again',
  },
  decision_unavailable: {
    status: 503,
    means: "an administrator's decision could not be recorded",
    remedy: 'repeat after `Retry-After`',
  },
  events_unavailable: {
    status: 503,
    means: 'MySQL does not answer',
    remedy: 'repeat after `Retry-After`',
  },
  endpoints_unavailable: {
    status: 503,
    means: 'the endpoints cannot be read or changed right now',
    remedy: 'repeat after `Retry-After`',
  },
  /** The caller's own time was over. */
  wait_timed_out: {
    status: 504,
    means: 'the order was not stored within the wait; it is being cancelled (`orderNo`)',
    remedy: 'look at the order, or buy again with a fresh key',
  },
} as const satisfies Record<string, { status: number; means: string; remedy: string }>;

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

export function titleOf(code: ProblemCode): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
