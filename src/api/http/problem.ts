/** RFC 9457 problems: how every error reaches a caller. Internal messages stay in the log. */

import type { Middleware } from 'koa';
import type { Logger } from 'pino';
import { z } from 'zod';
import { PROBLEM_STATUS, type ProblemCode, type UnavailableCode } from './problem-codes.ts';
import type { ProblemExtra } from './replies.ts';

export const PROBLEM_TYPE = 'application/problem+json';
/** Most answers are one caller's own, and an error is over soon. */
export const UNCACHED = { 'Cache-Control': 'no-store' } as const;

export interface ProblemOptions<Code extends ProblemCode> {
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
  /** No member of the error as a log writes it: it would tell the cause again, and show an order's data. */
  readonly #options: ProblemOptions<Code>;

  constructor(code: Code, detail: string, options: ProblemOptions<Code> = {}) {
    // Without a cause it was decided upon: an answer whose stack is never read, and there may be thousands.
    const { stackTraceLimit } = Error;
    if (options.cause === undefined) Error.stackTraceLimit = 0;
    super(detail, { cause: options.cause });
    Error.stackTraceLimit = stackTraceLimit;
    this.status = PROBLEM_STATUS[code];
    this.code = code;
    this.#options = options;
  }

  get options(): ProblemOptions<Code> {
    return this.#options;
  }
}

/** The same for an order of another user: a caller must not learn that it exists. */
export function orderNotFound(): Problem {
  return new Problem('order_not_found', 'There is no such order of yours.');
}

/** Also for a draft, and for a sale whose data were removed long after its end. */
export function saleNotFound(): Problem {
  return new Problem('sale_not_found', 'There is no such sale.');
}

/** Redis, MySQL or the provider did not answer: nothing is known to have happened, repeating is safe. */
export function unavailable(code: UnavailableCode, detail: string, cause: unknown): Problem {
  return new Problem(code, detail, { retryAfterSeconds: 1, cause });
}

/** Parses what a caller sent; a fault names where it is. */
export function parseInput<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => ({ path: issue.path.join('.'), message: issue.message }));
  throw new Problem('invalid_request', 'The request is not as it must be.', { extra: { faults } });
}

export function problemDocument({ status, code, message, options }: Problem): string {
  return JSON.stringify({
    type: 'about:blank',
    title: titleOf(code),
    status,
    code,
    detail: message,
    ...options.extra,
  });
}

function headersOf({ options: { retryAfterSeconds, headers } }: Problem): Record<string, string> {
  return {
    ...UNCACHED,
    'Content-Type': PROBLEM_TYPE,
    ...headers,
    ...(retryAfterSeconds === undefined ? {} : { 'Retry-After': String(retryAfterSeconds) }),
  };
}

/** The answer to any error, which is logged where it is ours. */
export function answerTo(error: unknown, { path, log }: { path: string; log: Logger }) {
  const problem = toProblem(error);
  // A refusal without a cause was decided upon: an answer like any other, and there may be thousands.
  if (problem.status >= 500 && problem.cause !== undefined)
    log.error({ err: error, path, code: problem.code }, 'request failed');
  return { status: problem.status, headers: headersOf(problem), body: problemDocument(problem) };
}

/**
 * Turns whatever a handler throws into a problem document. No cache keeps an answer, unless its handler says
 * so.
 */
export function problemResponder(log: Logger): Middleware {
  return async (ctx, next) => {
    ctx.set(UNCACHED);
    try {
      await next();
      if (ctx.status === 404 && ctx.body === undefined) {
        throw new Problem('no_such_resource', 'There is nothing at this address.');
      }
      // Set by the router's allowedMethods: 501 for a method it has never heard of.
      if ((ctx.status === 405 || ctx.status === 501) && ctx.body === undefined) {
        throw new Problem('method_not_allowed', 'Not with this method; Allow names those that work.');
      }
    } catch (error) {
      const { status, headers, body } = answerTo(error, { path: ctx.path, log });
      ctx.status = status;
      ctx.body = body;
      ctx.set(headers);
    }
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
  if (status === 413) return new Problem('body_too_large', 'The body is larger than this resource takes.');
  if (status === 415)
    return new Problem('unsupported_media_type', 'Send the body as application/json, in UTF-8.');
  if (status !== undefined) return new Problem('malformed_request', 'The request could not be read.');
  return new Problem('internal_error', 'Something went wrong on our side.', {
    retryAfterSeconds: 1,
    cause: error,
  });
}

function titleOf(code: string): string {
  const words = code.replaceAll('_', ' ');
  return words.charAt(0).toUpperCase() + words.slice(1);
}
