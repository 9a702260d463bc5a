/** RFC 9457 problems: how every error reaches a caller. Internal messages stay in the log. */

import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { Middleware } from 'koa';
import type { Logger } from 'pino';
import { z } from 'zod';
import { skuSchema } from '../../orders/content.ts';
import { PROBLEMS, problemType, titleOf, type ProblemCode, type UnavailableCode } from './problem-codes.ts';
import { time, count, amount, openOrderReply, orderReply, shownCurrency, shownOrderNo } from './replies.ts';
import { SCOPES } from './scopes.ts';

export const PROBLEM_TYPE = 'application/problem+json';
/**
 * Most answers are one caller's own, and an error is over soon. And a browser takes none for another type
 * than it says, such as a page.
 */
export const USUAL_HEADERS = { 'Cache-Control': 'no-store', 'X-Content-Type-Options': 'nosniff' } as const;

/** By it a caller finds the lines of its call in our log, and the spans. */
export const REQUEST_ID = 'X-Request-Id';
/** As gateways make them: UUIDs, ULIDs, base64, or `Root=1-…`. Nothing that a log or a shell would read. */
const REQUEST_ID_PATTERN = /^[\w.:/+=-]{1,128}$/;

/** The caller's, where it is well formed; else one of ours, which from then on stands in its place. */
export function requestIdOf({ headers }: IncomingMessage): string {
  const given = headers['x-request-id'];
  if (typeof given === 'string' && REQUEST_ID_PATTERN.test(given)) return given;
  const made = randomUUID();
  headers['x-request-id'] = made;
  return made;
}

export interface ProblemOptions<Code extends ProblemCode> {
  /** Where more can be said than the row of its code says. */
  detail?: string;
  /** More members of the problem document. */
  extra?: ProblemExtra<Code>;
  /** Seconds after which repeating makes sense. */
  retryAfterSeconds?: number;
  /** Further headers of the answer. */
  headers?: Record<string, string>;
  cause?: unknown;
}

export class Problem<Code extends ProblemCode = ProblemCode> extends Error {
  override name = 'Problem';
  readonly status: number;
  readonly code: Code;
  /** No member of the error as a log writes it: it would repeat the cause, and show an order's data. */
  readonly #options: ProblemOptions<Code>;

  constructor(code: Code, options: ProblemOptions<Code> = {}) {
    // Without a cause it was decided upon: an answer whose stack is never read, and there may be thousands.
    const { stackTraceLimit } = Error;
    if (options.cause === undefined) Error.stackTraceLimit = 0;
    super(options.detail ?? PROBLEMS[code].says, { cause: options.cause });
    Error.stackTraceLimit = stackTraceLimit;
    this.status = PROBLEMS[code].status;
    this.code = code;
    this.#options = options;
  }

  get options(): ProblemOptions<Code> {
    return this.#options;
  }
}

/** The same for an order of another user: a caller must not learn that it exists. */
export function orderNotFound(): Problem {
  return new Problem('order_not_found');
}

/** Also for a draft, and for a sale whose data were removed long after its end. */
export function saleNotFound(): Problem {
  return new Problem('sale_not_found');
}

/** Redis, MySQL or the provider did not answer: nothing is known to have happened, repeating is safe. */
export function unavailable(code: UnavailableCode, cause: unknown): Problem {
  return new Problem(code, { retryAfterSeconds: 1, cause });
}

/** @param outcome has the members that the problem has beside the usual ones, and maybe a `detail` */
export function problemOf(code: ProblemCode, outcome: object): Problem {
  const detail = 'detail' in outcome ? outcome.detail : undefined;
  return new Problem(code, {
    ...(typeof detail === 'string' && { detail }),
    ...(PROBLEMS[code].status === 503 && { retryAfterSeconds: 1 }),
    ...membersOf(code, outcome),
  });
}

function membersOf<Code extends ProblemCode>(code: Code, outcome: object): { extra?: ProblemExtra<Code> };
function membersOf(code: ProblemCode, outcome: object): { extra?: object } {
  const schemas: { [code: string]: z.ZodObject } = problemExtras;
  const schema = schemas[code];
  if (!schema) return {};
  const members = Object.entries(outcome).filter(([name]) => Object.hasOwn(schema.shape, name));
  return { extra: Object.fromEntries(members) };
}

/** Parses what a caller sent; a fault names where it is. */
export function parseInput<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }));
  throw new Problem('invalid_request', { extra: { faults } });
}

export function problemDocument({ status, code, message, options }: Problem): string {
  return JSON.stringify({
    type: problemType(code),
    title: titleOf(code),
    status,
    code,
    detail: message,
    ...options.extra,
  });
}

function headersOf({ options: { retryAfterSeconds, headers } }: Problem): Record<string, string> {
  return {
    ...USUAL_HEADERS,
    'Content-Type': PROBLEM_TYPE,
    ...headers,
    ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
  };
}

/** The answer to any error, which is logged where it is ours. */
export function answerTo(
  error: unknown,
  { path, requestId, log }: { path: string; requestId: string; log: Logger },
) {
  const problem = toProblem(error);
  // A refusal without a cause was decided upon: an answer like any other, and there may be thousands.
  if (problem.status >= 500 && problem.cause !== undefined)
    log.error({ err: error, requestId, path, code: problem.code }, 'request failed');
  const { status, code } = problem;
  return { status, code, headers: headersOf(problem), body: problemDocument(problem) };
}

/**
 * Is told of each answer: of which call, its status, the code of a problem, when the call came, by
 * `performance.now()`, and its body, which may be any.
 */
export type Answered = (
  name: string,
  status: number,
  code: ProblemCode | undefined,
  sinceMs: number,
  body: unknown,
) => void;

/** What the router leaves of its work. */
interface Matched {
  _matchedRoute?: string | RegExp;
}

/** The name of a call that no route has. */
const NO_ROUTE = 'none';

/**
 * Turns whatever a handler throws into a problem document. No cache keeps an answer, unless its handler says
 * so.
 */
export function problemResponder(log: Logger, answered: Answered): Middleware<{ body?: unknown }, Matched> {
  return async (ctx, next) => {
    const sinceMs = performance.now();
    let refusal: ProblemCode | undefined;
    const requestId = requestIdOf(ctx.req);
    ctx.set(USUAL_HEADERS);
    ctx.set(REQUEST_ID, requestId);
    try {
      await next();
      if (ctx.status === 404 && ctx.body === undefined) {
        throw new Problem('no_such_resource');
      }
      // Set by the router's allowedMethods: 501 for a method it has never heard of.
      if ((ctx.status === 405 || ctx.status === 501) && ctx.body === undefined) {
        throw new Problem('method_not_allowed');
      }
    } catch (error) {
      const { status, code, headers, body } = answerTo(error, { path: ctx.path, requestId, log });
      refusal = code;
      ctx.status = status;
      ctx.body = body;
      ctx.set(headers);
    }
    const name = typeof ctx._matchedRoute === 'string' ? `${ctx.method} ${ctx._matchedRoute}` : NO_ROUTE;
    answered(name, ctx.status, refusal, sinceMs, ctx.state.body);
  };
}

/**
 * Errors that Koa's own parts throw on purpose (`co-body` without `expose`); callers never get their message.
 */
const httpError = z.object({ status: z.int().min(400).max(499) });

/** The answer to any error. */
export function toProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const status = httpError.safeParse(error).data?.status;
  if (status === 413) return new Problem('body_too_large');
  if (status === 415) return new Problem('unsupported_media_type');
  if (status !== undefined) return new Problem('malformed_request');
  return new Problem('internal_error', {
    retryAfterSeconds: 1,
    cause: error,
  });
}

/**
 * Why a ticket is refused. forged: not signed by the shop, or not for Holdfast. malformed: signed, and not as
 * a ticket must be. nothing_to_pay: its charges bring the total below 0.
 */
const TICKET_FAULTS = [
  'expired',
  'not_yet_valid',
  'other_user',
  'other_sale',
  'other_order',
  'forged',
  'malformed',
  'nothing_to_pay',
] as const;

export type TicketFault = (typeof TICKET_FAULTS)[number];

const openOrders = z
  .array(openOrderReply)
  .describe('Unpaid orders of the user in this sale: the newest 20, the oldest of them first.');

/**
 * Why the answer to a challenge is refused. forged: the challenge is none of ours. unsolved: it is, and this
 * is no solution.
 */
const CHALLENGE_FAULTS = ['expired', 'other_user', 'other_sale', 'forged', 'malformed', 'unsolved'] as const;

export type ChallengeFault = (typeof CHALLENGE_FAULTS)[number];

const limit = count.describe('Units that a user may hold or own.');
const bought = count.describe('Units that the user holds or owns.');
const total = amount.describe('Minor units of the currency: the total of this cart.');
const order = orderReply.describe('The order as it is.');

/** What the problem document of a code has beside the members that all have. */
const problemExtras = {
  invalid_request: z.strictObject({
    faults: z
      .array(
        z.strictObject({
          path: z.string().describe('The member or the parameter, with dots between the steps.'),
          message: z.string().describe('What it must be.'),
        }),
      )
      .describe('What is wrong.'),
  }),
  forbidden: z.strictObject({ scope: z.enum(SCOPES).describe('The scope that the token lacks.') }),
  unknown_sku: z.strictObject({ sku: skuSchema }),
  called_off: z.strictObject({ sku: skuSchema }),
  sale_not_open_yet: z.strictObject({ opensAt: time.describe('When the sale opens.') }),
  sold_out: z.strictObject({
    sku: skuSchema,
    available: count.describe('Units that are free now.'),
    held: count.describe('Units in unpaid orders. If it is 0, the SKU is sold out.'),
    openOrders,
  }),
  limit_reached: z.strictObject({ sku: skuSchema, limit, bought, openOrders }),
  sale_limit_reached: z.strictObject({ limit, bought, openOrders }),
  too_many_unpaid: z.strictObject({
    limit: count.describe('Orders that a user may let end without a payment.'),
    unpaid: count.describe('Orders of the user that ended without a payment.'),
  }),
  total_changed: z.strictObject({ total, currency: shownCurrency }),
  total_not_payable: z.strictObject({ total, currency: shownCurrency }),
  ticket_invalid: z.strictObject({ reason: z.enum(TICKET_FAULTS).describe('Why the ticket is refused.') }),
  challenge_invalid: z.strictObject({
    reason: z.enum(CHALLENGE_FAULTS).describe('Why the answer to the challenge is refused.'),
  }),
  ticket_used: z.strictObject({ orderNo: shownOrderNo.describe('The order that spent the ticket.') }),
  sale_rule_fixed: z.strictObject({
    path: z.string().describe('The member of the sale that stays.'),
    sku: skuSchema.optional().describe('The SKU that is missing.'),
  }),
  stock_below_committed: z.strictObject({
    sku: skuSchema,
    committed: count.describe('Units that are held and sold.'),
  }),
  version_conflict: z.strictObject({
    version: z.int().min(1).nullable().describe('The version of the sale; null: there is no such sale.'),
  }),
  wait_timed_out: z.strictObject({ orderNo: shownOrderNo }),
  order_failed: z.strictObject({ order }),
  already_paid: z.strictObject({ order }),
  not_payable: z.strictObject({ order }),
  not_extendable: z.strictObject({ order }),
  deadline_out_of_range: z.strictObject({
    after: time.describe('The deadline must be later.'),
    until: time.describe('The latest deadline.'),
  }),
  refund_exceeds: z.strictObject({
    refundable: amount.describe('Minor units of the currency that can still be refunded.'),
    currency: shownCurrency,
  }),
  refund_exceeds_units: z.strictObject({
    sku: skuSchema,
    refundable: count.describe('Units that can still be refunded.'),
  }),
  position_ahead: z.strictObject({ last: count.describe('The sequence of the last event.') }),
  position_behind: z.strictObject({ position: count.describe('The position of the consumer.') }),
} satisfies { [Code in ProblemCode]?: z.ZodObject };

type Extras = typeof problemExtras;

type ProblemExtra<Code extends ProblemCode> = Code extends keyof Extras ? z.infer<Extras[Code]> : never;

/** The problem document (RFC 9457) of this code. */
export function problemReply(code: ProblemCode) {
  const members = z.strictObject({
    type: z.literal(problemType(code)).describe('The page about the code, at this API.'),
    title: z.string().min(1).describe('The code in words.'),
    status: z.literal(PROBLEMS[code].status).describe('The status of the answer.'),
    code: z.literal(code).describe('The code, for programs.'),
    detail: z.string().min(1).describe('What happened, for people.'),
  });
  const extras: { [code: string]: z.ZodObject } = problemExtras;
  return members.extend(extras[code]?.shape ?? {});
}
