/** The part of the book that takes money: payment sessions, and payments outside any session. */

import { isDeepStrictEqual } from 'node:util';
import { ulid } from 'ulidx';
import { hasRoom, MAX_ENTRIES } from './book-room.ts';
import { paymentOf, sessionOf, type BookState, type Session } from './book-state.ts';
import type { Entry, Payment } from './entries.ts';
import { buildEvent } from './events.ts';
import { decidePayment } from './mischief.ts';

/**
 * Failed attempts on one session: no shopper tries a card more often, and each is an event that must be
 * delivered.
 */
const MAX_FAILURES = 20;

interface Money {
  reference: string;
  amount: number;
  currency: string;
}
/** `deployment` of the shop; null: the shop does not say. */
export type SessionTerms = Money & {
  expiresAtMs: number;
  signedOrder: string;
  shopReference: string | null;
  metadata: Record<string, string>;
  deployment: string | null;
};
export type StrayTerms = Money & { signedOrder: string | null; deployment: string | null };

export type OpenOutcome =
  | { kind: 'opened' | 'repeated'; session: Session }
  | { kind: 'idempotency_key_reused' }
  | { kind: 'book_full' };
export type Refusal =
  | { kind: 'already_paid'; payment: Payment }
  | {
      kind: 'payment_processing' | 'session_voided' | 'session_expired' | 'too_many_failures' | 'book_full';
    };
export type PayOutcome = { kind: 'paid' } | { kind: 'processing' } | Refusal;
export type FailOutcome = { kind: 'failed' } | Refusal;
export type VoidOutcome = { kind: 'voided' } | { kind: 'already_paid'; payment: Payment };
export type StrayOutcome = { kind: 'paid'; payment: Payment } | { kind: 'book_full' };

/** Writes a change to the file, then applies it. */
type Write = (entry: Entry) => void;

export function createSessionBook(state: BookState, record: Write) {
  return {
    /** The key names the session: the same terms again find it, other terms are refused. */
    openSession: (idempotencyKey: string, terms: SessionTerms): OpenOutcome =>
      openOnce(state, record, idempotencyKey, terms),

    findSession: (id: string): Session | undefined => state.sessions.get(id),

    /** Promised money is not taken yet, so it does not keep a session from being voided. */
    voidSession: (session: Session): VoidOutcome => {
      if (session.paymentId !== null) {
        return { kind: 'already_paid', payment: paymentOf(state, session.paymentId) };
      }
      if (session.status === 'open') record({ kind: 'session_voided', sessionId: session.id });
      return { kind: 'voided' };
    },

    paySession: (session: Session): PayOutcome => {
      // A second press meanwhile gets the same answer.
      if (session.promise) return { kind: 'processing' };
      const refusal = refuseAttempt(state, session);
      return refusal ?? payOrPromise(state, record, session);
    },

    /**
     * Takes the money that was promised, even of a session that is voided or has expired.
     * Does nothing when none was promised.
     */
    keepPromise: (sessionId: string): void => {
      const session = sessionOf(state, sessionId);
      if (session.promise) takeFrom(state, record, session, session.promise.amount);
    },

    /** The attempt fails and takes nothing; the session stays open, as with a card that is declined. */
    failSession: (session: Session): FailOutcome => {
      if (session.promise) return { kind: 'payment_processing' };
      const refusal = refuseAttempt(state, session);
      if (refusal) return refusal;
      if (session.failures >= MAX_FAILURES) return { kind: 'too_many_failures' };
      const about = { type: 'payment.failed', paymentId: null, sessionId: session.id } as const;
      record({ kind: 'payment_failed', event: buildEvent(state, session, about) });
      return { kind: 'failed' };
    },

    /** Money outside any session: late, doubled or for no known order, as it happens at real providers. */
    takeStrayPayment: (terms: StrayTerms): StrayOutcome =>
      hasRoom(state) ? { kind: 'paid', payment: take(state, record, terms, null) } : { kind: 'book_full' },
  };
}

export function hasExpired(session: Session): boolean {
  return session.status === 'open' && Date.now() >= session.expiresAtMs;
}

function openOnce(state: BookState, record: Write, idempotencyKey: string, terms: SessionTerms): OpenOutcome {
  const knownId = state.sessionIdsByKey.get(idempotencyKey);
  if (knownId !== undefined) {
    const known = sessionOf(state, knownId);
    return sameTerms(known, terms)
      ? { kind: 'repeated', session: known }
      : { kind: 'idempotency_key_reused' };
  }
  if (state.sessions.size >= MAX_ENTRIES) return { kind: 'book_full' };
  const id = `ps_${ulid()}`;
  record({ kind: 'session_opened', session: { ...terms, id, idempotencyKey, createdAtMs: Date.now() } });
  return { kind: 'opened', session: sessionOf(state, id) };
}

function sameTerms(session: Session, terms: SessionTerms): boolean {
  return (
    session.reference === terms.reference &&
    session.amount === terms.amount &&
    session.currency === terms.currency &&
    session.expiresAtMs === terms.expiresAtMs &&
    session.signedOrder === terms.signedOrder &&
    session.shopReference === terms.shopReference &&
    isDeepStrictEqual(session.metadata, terms.metadata) &&
    session.deployment === terms.deployment
  );
}

function refuseAttempt(state: BookState, session: Session): Refusal | undefined {
  if (session.paymentId !== null) {
    return { kind: 'already_paid', payment: paymentOf(state, session.paymentId) };
  }
  if (session.status === 'voided') return { kind: 'session_voided' };
  if (hasExpired(session)) return { kind: 'session_expired' };
  return hasRoom(state) ? undefined : { kind: 'book_full' };
}

function payOrPromise(state: BookState, record: Write, session: Session): PayOutcome {
  const { amount, delayMs } = decidePayment(state.mischief, session.amount);
  if (delayMs === null) {
    takeFrom(state, record, session, amount);
    return { kind: 'paid' };
  }
  const promise = { sessionId: session.id, amount, dueAtMs: Date.now() + delayMs };
  record({ kind: 'payment_promised', promise });
  return { kind: 'processing' };
}

function takeFrom(
  state: BookState,
  record: Write,
  { id, reference, currency }: Session,
  amount: number,
): void {
  take(state, record, { reference, currency, amount, signedOrder: null, deployment: null }, id);
}

function take(state: BookState, record: Write, terms: StrayTerms, sessionId: string | null): Payment {
  const id = `pay_${ulid()}`;
  const fee = Math.round((terms.amount * state.fees.paidBasisPoints) / 10_000) || null;
  const event = buildEvent(state, { ...terms, fee }, { type: 'payment.succeeded', paymentId: id, sessionId });
  const { reference, amount, currency, signedOrder, deployment } = terms;
  const { createdAtMs } = event;
  const payment = {
    id,
    reference,
    amount,
    currency,
    signedOrder,
    deployment,
    createdAtMs,
    sessionId,
    eventId: event.id,
    fee,
  };
  record({ kind: 'payment_taken', payment, event });
  return paymentOf(state, id);
}
