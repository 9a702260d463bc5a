/** The sandbox's errors as callers see them: RFC 9457 problems with stable codes. */

/** Every code a caller can meet, with its HTTP status and its title. */
const PROBLEMS = {
  invalid_request: { status: 400, title: 'The request is not what this call expects' },
  idempotency_key_required: { status: 400, title: 'The call needs an Idempotency-Key header' },
  unauthorized: { status: 401, title: 'The API key is missing or wrong' },
  refund_refused: { status: 402, title: 'The refund was refused' },
  not_found: { status: 404, title: 'There is nothing here' },
  method_not_allowed: { status: 405, title: 'This address does not take this method' },
  already_paid: { status: 409, title: 'The session is paid' },
  payment_processing: { status: 409, title: 'The session is being paid' },
  session_voided: { status: 409, title: 'The session was voided' },
  session_expired: { status: 409, title: 'The session has expired' },
  too_many_failures: { status: 409, title: 'Too many attempts failed on this session' },
  currency_mismatch: { status: 409, title: 'The payment has another currency' },
  refund_exceeds_payment: { status: 409, title: 'That is more than what is left of the payment' },
  too_many_refunds: { status: 409, title: 'The payment was refunded or disputed too often' },
  dispute_closed: { status: 409, title: 'The dispute is closed so already' },
  dispute_open: { status: 409, title: 'The dispute is open' },
  body_too_large: { status: 413, title: 'The body is too large' },
  idempotency_key_reused: { status: 422, title: 'The Idempotency-Key was used with other terms' },
  rate_limited: { status: 429, title: 'Too many calls: repeat after Retry-After' },
  internal: { status: 500, title: 'The sandbox failed' },
  book_full: { status: 503, title: 'The sandbox has no room for more' },
} as const;
export type ProblemCode = keyof typeof PROBLEMS;

export interface Problem {
  type: 'about:blank';
  title: string;
  status: number;
  code: ProblemCode;
  detail?: string;
}

/** Thrown by a handler, answered by the outermost middleware. `extra` joins the problem's members. */
export class ProblemError extends Error {
  override name = 'ProblemError';
  readonly code: ProblemCode;
  readonly status: number;
  readonly extra: Readonly<Record<string, unknown>>;

  constructor(code: ProblemCode, extra: Readonly<Record<string, unknown>> = {}) {
    super(PROBLEMS[code].title);
    this.code = code;
    this.status = PROBLEMS[code].status;
    this.extra = extra;
  }
}

export function describeProblem(code: ProblemCode): Problem {
  return { type: 'about:blank', ...PROBLEMS[code], code };
}
