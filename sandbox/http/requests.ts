/** Checks of a request that several routes share: API key, idempotency key, shape. */

import { createHash, timingSafeEqual } from 'node:crypto';
import type { RouterContext } from '@koa/router';
import type { Middleware } from 'koa';
import type { z } from 'zod';
import { IDEMPOTENCY_KEY_PATTERN } from '../../src/orders/content.ts';
import type { Book } from '../book/book.ts';
import { ProblemError } from './errors.ts';

/** As providers ask for it whose bound is one a second. */
const RETRY_AFTER_SECONDS = '1';

export function requireApiKey(apiKey: string): Middleware {
  const expected = digest(`Bearer ${apiKey}`);
  return async (ctx, next) => {
    if (!timingSafeEqual(digest(ctx.get('authorization')), expected)) throw new ProblemError('unauthorized');
    await next();
  };
}

/** Refuses the calls of the shop that mischief calls too many. */
export function limitCalls(book: Pick<Book, 'limitsCall'>): Middleware {
  return async (ctx, next) => {
    if (book.limitsCall()) {
      ctx.set('Retry-After', RETRY_AFTER_SECONDS);
      throw new ProblemError('rate_limited');
    }
    await next();
  };
}

export function requireIdempotencyKey(ctx: RouterContext): string {
  const key = ctx.get('idempotency-key');
  if (!IDEMPOTENCY_KEY_PATTERN.test(key)) throw new ProblemError('idempotency_key_required');
  return key;
}

export function parse<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new ProblemError('invalid_request', {
    errors: parsed.error.issues.map(({ path, message }) => ({ field: path.join('.'), message })),
  });
}

/** What the address names, or the answer that there is nothing. */
export function orNotFound<T>(found: T | undefined): T {
  if (found === undefined) throw new ProblemError('not_found');
  return found;
}

/** Keys are compared by their digests, so neither the time nor an exception reveals their length. */
function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
