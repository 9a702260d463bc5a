/** The calls of the contract as Holdfast makes them, each bounded in time, and what a case may conclude. */

import { setTimeout as delay } from 'node:timers/promises';
import { ulid } from 'ulidx';
import type { z } from 'zod';
import {
  paymentReplySchema,
  paymentsPageSchema,
  type reversalReplySchema,
  reversalsReplySchema,
  sessionReplySchema,
} from '../src/providers/remote-wire.ts';
import { codeOf, send, type Reply } from '../src/providers/remote.ts';

/** The provider did something else than the contract says; the message is what it did. */
export class BrokenError extends Error {
  override name = 'BrokenError';
}

/** The case could not be tried; the message says why. */
export class NotCheckedError extends Error {
  override name = 'NotCheckedError';
}

/** As long as Holdfast waits for an answer. */
const CALL_TIMEOUT_MS = 5_000;
/** A 429 that says when to come again is no fault, and is no reason to wait without an end either. */
const MOST_PAUSES = 5;
const LONGEST_PAUSE_SECONDS = 60;

/** Long enough for the page to be paid, and as long as a sale's usual window. */
const SESSION_MINUTES = 30;

export interface Provider {
  url: string;
  apiKey: string;
  /** Told of each pause that the provider asks for. */
  onPause: (seconds: number) => void;
}

export type SessionTerms = ReturnType<typeof buildTerms>;
export type Session = z.infer<typeof sessionReplySchema>;
export type Payment = z.infer<typeof paymentReplySchema>;
export type Reversal = z.infer<typeof reversalReplySchema>;

/** What a session is opened with: an order of a number that no other has. */
export function buildTerms(money: { amount: number; currency: string }) {
  const id = ulid();
  return {
    reference: `check-0-1-${id}`,
    ...money,
    signed_order: `provider.check.${id}`,
    shop_reference: `Check ${id}`,
    metadata: { origin: 'provider-check', note: 'Zürich · 東京' } as Record<string, string>,
    deployment: 'provider-check.0',
    expires_at: new Date(Date.now() + SESSION_MINUTES * 60_000).toISOString(),
  };
}

export function newKey(): string {
  return `check_${ulid()}`;
}

/** @throws BrokenError where no answer comes in time, none that can be read, or 429 without a pause */
export async function call(
  provider: Provider,
  method: 'GET' | 'POST',
  path: string,
  what: { idempotencyKey?: string; body?: object; apiKey?: string } = {},
): Promise<Reply> {
  const { apiKey = provider.apiKey, ...rest } = what;
  const options = { baseUrl: provider.url, apiKey, requestTimeoutMs: CALL_TIMEOUT_MS };
  for (let pauses = 0; ; pauses += 1) {
    const reply = await send(options, method, path, rest).catch((error: unknown) => {
      throw new BrokenError(`${method} ${path}: ${reasonOf(error)}`);
    });
    if (reply.status !== 429) return reply;
    const seconds = /^[1-9]\d{0,8}$/.test(reply.retryAfter ?? '') ? Number(reply.retryAfter) : undefined;
    if (seconds === undefined)
      throw new BrokenError(`${method} ${path}: 429 with Retry-After: ${reply.retryAfter ?? 'none'}`);
    if (pauses === MOST_PAUSES || seconds > LONGEST_PAUSE_SECONDS)
      throw new NotCheckedError(`429, and Retry-After: ${seconds}; raise the provider's limit for the check`);
    provider.onPause(seconds);
    await delay(seconds * 1_000);
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error.name === 'TimeoutError') return `no answer within ${CALL_TIMEOUT_MS / 1_000} s`;
  const { cause } = error;
  // Node joins the faults of all addresses of a host, and gives them no message.
  const faults = cause instanceof AggregateError ? cause.errors : [cause];
  const [first] = faults.filter((each) => each instanceof Error);
  return first === undefined ? error.message : `${error.message}: ${first.message}`;
}

/** An answer in a line: its status, and its code or the beginning of its body. */
export function describeReply(reply: Reply): string {
  const text = codeOf(reply) ?? JSON.stringify(reply.body ?? 'no JSON');
  return `${reply.status} ${text.length > 160 ? `${text.slice(0, 160)}…` : text}`;
}

/** @throws BrokenError where the answer is no success, or of another form */
export function readAs<T extends z.ZodType>(schema: T, reply: Reply): z.output<T> {
  if (!reply.ok) throw new BrokenError(describeReply(reply));
  const parsed = schema.safeParse(reply.body);
  if (parsed.success) return parsed.data;
  const [first] = parsed.error.issues;
  throw new BrokenError(`${reply.status}, and ${first?.path.join('.') || 'the body'}: ${first?.message}`);
}

export async function postSession(provider: Provider, terms: object, idempotencyKey: string): Promise<Reply> {
  return call(provider, 'POST', 'v1/payment_sessions', { idempotencyKey, body: terms });
}

export async function openSession(
  provider: Provider,
  terms: object,
  idempotencyKey = newKey(),
): Promise<Session> {
  return readAs(sessionReplySchema, await postSession(provider, terms, idempotencyKey));
}

export async function voidSession(provider: Provider, id: string): Promise<Reply> {
  return call(provider, 'POST', `v1/payment_sessions/${encodeURIComponent(id)}/void`);
}

export async function postRefund(
  provider: Provider,
  terms: { payment_id: string; amount: number; currency: string },
  idempotencyKey = newKey(),
): Promise<Reply> {
  return call(provider, 'POST', 'v1/refunds', { idempotencyKey, body: terms });
}

export async function listReversals(provider: Provider, paymentId: string): Promise<Reversal[]> {
  const reply = await call(provider, 'GET', `v1/reversals?payment_id=${encodeURIComponent(paymentId)}`);
  return readAs(reversalsReplySchema, reply).data;
}

/** Pages that are read of a book: of a hundred payments each, more than a test account takes in a day. */
const MOST_PAGES = 200;

/**
 * The book between two times, page by page to its end.
 * @throws BrokenError where a payment is of another form, or the pages do not end
 */
export async function listPayments(
  provider: Provider,
  { since, until, limit = 100 }: { since: string; until?: string; limit?: number },
): Promise<Payment[]> {
  const payments: Payment[] = [];
  const cursors = new Set<string>();
  for (let cursor = '0'; ;) {
    if (cursors.has(cursor)) throw new BrokenError(`the cursor ${cursor} leads back to itself`);
    if (cursors.size === MOST_PAGES) throw new NotCheckedError(`the book has more than ${MOST_PAGES} pages`);
    cursors.add(cursor);
    const query = new URLSearchParams({ since, limit: String(limit), cursor });
    if (until !== undefined) query.set('until', until);
    const page = readAs(paymentsPageSchema, await call(provider, 'GET', `v1/payments?${query.toString()}`));
    if (page.data.length > limit) throw new BrokenError(`a page of ${page.data.length} with limit=${limit}`);
    for (const listed of page.data) {
      const payment = paymentReplySchema.safeParse(listed);
      if (payment.success) payments.push(payment.data);
      else {
        const [first] = payment.error.issues;
        throw new BrokenError(`a payment with ${first?.path.join('.')}: ${first?.message}`);
      }
    }
    if (page.next_cursor === null) return payments;
    cursor = page.next_cursor;
  }
}
