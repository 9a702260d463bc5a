/** The cases that need no payment: keys, sessions, refusals, voids. */

import { setTimeout as delay } from 'node:timers/promises';
import { problemReplySchema, sessionReplySchema, voidReplySchema } from '../src/providers/remote-wire.ts';
import type { Reply } from '../src/providers/remote.ts';
import { MAX_SIGNED_ORDER_CHARS } from '../src/providers/signed-order.ts';
import {
  buildTerms,
  call,
  describeReply,
  listPayments,
  newKey,
  NotCheckedError,
  openSession,
  postRefund,
  postSession,
  readAs,
  voidSession,
  type Session,
  type SessionTerms,
} from './calls.ts';
import { expectThat, once, type Case, type Check } from './check.ts';

/** How far a session's end may lie ahead for a case to wait for it, and how long it then still waits. */
const SOON_MS = 3_000;
const AFTER_END_MS = 1_000;

export function buildCallCases({ provider, money }: Check): Case[] {
  const terms = buildTerms(money);
  const key = newKey();
  const opened = once('opening a session', () => openSession(provider, terms, key));

  return [
    {
      name: 'key-wrong',
      expected: '401 to each of the five calls without the right key',
      run: async () => {
        const apiKey = 'not-the-key';
        const idempotencyKey = newKey();
        const unknown = { payment_id: 'unknown', ...money };
        const answers = await Promise.all([
          call(provider, 'POST', 'v1/payment_sessions', { apiKey, idempotencyKey, body: buildTerms(money) }),
          call(provider, 'POST', 'v1/payment_sessions/unknown/void', { apiKey }),
          call(provider, 'GET', `v1/payments?since=${nowInSeconds()}`, { apiKey }),
          call(provider, 'POST', 'v1/refunds', { apiKey, idempotencyKey, body: unknown }),
          call(provider, 'GET', 'v1/reversals?payment_id=unknown', { apiKey }),
        ]);
        const got = answers.map(({ status }) => status).join(', ');
        expectThat(
          answers.every(({ status }) => status === 401),
          got,
        );
        return got;
      },
    },
    {
      name: 'session-opened',
      expected: 'a session of the terms asked for, open, with the address of its page',
      run: async () => {
        const session = await opened();
        expectTerms(session, terms);
        return `${session.id}, ${session.status}, ${session.url}`;
      },
    },
    {
      name: 'session-repeated',
      expected: 'the same key with the same terms answers the same session',
      run: async () => {
        const [first, again] = [await opened(), await openSession(provider, terms, key)];
        const got = `${first.id}, then ${again.id}`;
        expectThat(first.id === again.id, got);
        expectTerms(again, terms);
        return got;
      },
    },
    {
      name: 'session-at-once',
      expected: 'two calls at once under one key open one session',
      run: async () => {
        const at = { terms: buildTerms(money), key: newKey() };
        const both = await Promise.all([
          postSession(provider, at.terms, at.key),
          postSession(provider, at.terms, at.key),
        ]);
        return describeOne(both, await postSession(provider, at.terms, at.key));
      },
    },
    {
      name: 'session-key-reused',
      expected: 'other terms under the same key: 4XX idempotency_key_reused, and the session as it was',
      run: async () => {
        const { id } = await opened();
        const refused = await postSession(provider, { ...terms, amount: terms.amount + 1 }, key);
        expectRefused(refused, ['idempotency_key_reused']);
        const again = await openSession(provider, terms, key);
        expectThat(again.id === id && again.amount === terms.amount, `${again.id} of ${again.amount}`);
        return describeReply(refused);
      },
    },
    {
      name: 'session-refused',
      expected: 'an amount of 0, and a currency that is none: 4XX invalid_request',
      run: async () => {
        const [amount, currency] = [
          await postSession(provider, { ...buildTerms(money), amount: 0 }, newKey()),
          await postSession(provider, { ...buildTerms(money), currency: 'money' }, newKey()),
        ];
        expectRefused(amount, ['invalid_request']);
        expectRefused(currency, ['invalid_request']);
        return `${describeReply(amount)}, ${describeReply(currency)}`;
      },
    },
    {
      name: 'session-largest',
      expected: `a session with a signed order of ${MAX_SIGNED_ORDER_CHARS} characters and a KiB of metadata`,
      run: async () => {
        const largest = buildLargest(money);
        const session = await openSession(provider, largest);
        expectTerms(session, largest);
        return `${session.id}, ${session.status}`;
      },
    },
    {
      name: 'session-voided',
      expected: '200 voided, and the same when repeated',
      run: async () => {
        const { id } = await openSession(provider, buildTerms(money));
        const [first, again] = [await voidSession(provider, id), await voidSession(provider, id)];
        for (const reply of [first, again]) readAs(voidReplySchema, reply);
        return `${describeReply(first)}, then ${again.status}`;
      },
    },
    {
      name: 'session-expired',
      expected: 'a session that has expired is answered as voided',
      run: async () => {
        const { id } = await openExpired(provider, buildTerms(money));
        const reply = await voidSession(provider, id);
        readAs(voidReplySchema, reply);
        return describeReply(reply);
      },
    },
    {
      name: 'refund-unknown',
      expected: 'a refund of a payment that does not exist is not made',
      run: async () => {
        const reply = await postRefund(provider, { payment_id: newKey(), ...money });
        expectThat(reply.status >= 400 && reply.status < 500, describeReply(reply));
        return describeReply(reply);
      },
    },
    {
      name: 'book-read',
      expected: 'the payments of the last day, page by page to the end',
      run: async () => {
        const since = new Date(Date.now() - 24 * 3_600_000).toISOString();
        return `${(await listPayments(provider, { since })).length} payments`;
      },
    },
  ];
}

/** A session whose end is over. Without payment it is at most seconds until then. */
export async function openExpired(provider: Check['provider'], terms: SessionTerms): Promise<Session> {
  const endsAtMs = Date.now() + SOON_MS;
  const soon = { ...terms, expires_at: new Date(endsAtMs).toISOString() };
  const reply = await postSession(provider, soon, newKey());
  if (reply.status >= 400 && reply.status < 500)
    throw new NotCheckedError(`a session of ${SOON_MS / 1_000} s is refused: ${describeReply(reply)}`);
  const session = readAs(sessionReplySchema, reply);
  await delay(endsAtMs - Date.now() + AFTER_END_MS);
  return session;
}

function expectTerms(session: Session, terms: SessionTerms): void {
  const wrong = [
    ...(['reference', 'amount', 'currency', 'shop_reference'] as const).filter(
      (name) => session[name] !== terms[name],
    ),
    ...(Object.entries(terms.metadata).some(([name, text]) => session.metadata[name] !== text)
      ? (['metadata'] as const)
      : []),
  ];
  const got = wrong.map((name) => `${name} ${JSON.stringify(session[name])}`).join(', ');
  expectThat(wrong.length === 0, got);
  const ends = Date.parse(session.expires_at);
  expectThat(ends === Date.parse(terms.expires_at), `expires_at ${session.expires_at}`);
  expectThat(session.status === 'open' && session.payment_id === null, `a session that is ${session.status}`);
}

/** With one of these codes Holdfast takes it that nothing was done. */
export function expectRefused(reply: Reply, codes: readonly string[]): void {
  const code = problemReplySchema.safeParse(reply.body).data?.code ?? '';
  const isRefusal = reply.status >= 400 && reply.status < 500 && codes.includes(code);
  expectThat(isRefusal, describeReply(reply));
}

/**
 * Of two calls at once each may have failed in a way that leaves the outcome open; what was answered, and the
 * repeat, name one and the same.
 */
export function describeOne(both: readonly Reply[], again: Reply): string {
  const all = [...both, again];
  const ids = all.flatMap(({ ok, body }) => {
    const id = typeof body === 'object' && body !== null && 'id' in body ? body.id : undefined;
    return ok ? [String(id)] : [];
  });
  const got = all.map((reply) => (reply.ok ? `${reply.status}` : describeReply(reply))).join(', ');
  const named = `${got}: ${[...new Set(ids)].join(', ')}`;
  const isKept =
    again.ok &&
    new Set(ids).size === 1 &&
    all.every((reply) => reply.ok || reply.status >= 500 || reply.status === 409) &&
    !all.some((reply) => problemReplySchema.safeParse(reply.body).data?.code === 'idempotency_key_reused');
  expectThat(isKept, named);
  return named;
}

function buildLargest(money: Check['money']): SessionTerms {
  const terms = buildTerms(money);
  const signed = `${terms.signed_order}.`.padEnd(MAX_SIGNED_ORDER_CHARS, '"');
  const metadata = Object.fromEntries(['a', 'b', 'c', 'd', 'e'].map((name) => [name, 'é'.repeat(98)]));
  return { ...terms, reference: terms.reference.padEnd(128, '0'), signed_order: signed, metadata };
}

function nowInSeconds(): string {
  return new Date().toISOString().replace(/\.\d+/, '');
}
