/**
 * The far side's own book: payment sessions, payments taken, and the events that tell of them. Every change is
 * written to the file, where there is one, before it is believed; one change is one line, so a crash leaves no half.
 */

import assert from 'node:assert/strict';

import { ulid } from 'ulidx';

import {
  applyEntry,
  createBookState,
  entrySchema,
  type BookState,
  type Entry,
  type Event,
  type Payment,
  type Session,
} from './book-state.ts';
import { openJournal } from './journal.ts';

/**
 * Entries of each kind (sessions, payments, events). All stay in memory, at about half a kilobyte each, and a payment
 * is never forgotten, so a full book refuses new entries; this is hours of the fastest sale that the tests drive.
 */
const MAX_ENTRIES = 200_000;
/** Failed attempts on one session: nobody tries a card more often, and each one is an event that must be delivered. */
const MAX_FAILURES = 20;

export interface Money {
  reference: string;
  amount: number;
  currency: string;
}
export type SessionTerms = Money & { expiresAtMs: number };

export interface PaymentsQuery {
  reference: string | undefined;
  from: number;
  limit: number;
}

export type OpenOutcome =
  | { kind: 'opened' | 'repeated'; session: Session }
  | { kind: 'idempotency_key_reused' }
  | { kind: 'book_full' };
export type Refusal =
  | { kind: 'already_paid'; payment: Payment }
  | { kind: 'session_voided' | 'session_expired' | 'too_many_failures' | 'book_full' };
export type PayOutcome = { kind: 'paid'; payment: Payment } | Refusal;
export type FailOutcome = { kind: 'failed'; event: Event } | Refusal;
export type VoidOutcome = { kind: 'voided' } | { kind: 'already_paid'; payment: Payment };
export type StrayOutcome = { kind: 'paid'; payment: Payment } | { kind: 'book_full' };

export type Book = Awaited<ReturnType<typeof openBook>>;

/** Without a file the book lives in memory alone. */
export async function openBook(file: string | undefined) {
  const state = createBookState();
  const journal =
    file === undefined
      ? undefined
      : await openJournal(file, (entry) => applyEntry(state, entrySchema.parse(entry)));

  function record(entry: Entry): void {
    journal?.append(entry);
    applyEntry(state, entry);
  }

  return {
    /** The key names the session: the same terms again find it, other terms are refused. */
    openSession: (idempotencyKey: string, terms: SessionTerms): OpenOutcome =>
      openOnce(state, record, idempotencyKey, terms),

    findSession: (id: string): Session | undefined => state.sessions.get(id),

    voidSession: (session: Session): VoidOutcome => {
      if (session.paymentId !== null) {
        return { kind: 'already_paid', payment: paymentOf(state, session.paymentId) };
      }
      if (session.status === 'open') record({ kind: 'session_voided', sessionId: session.id });
      return { kind: 'voided' };
    },

    paySession: (session: Session): PayOutcome => {
      const refusal = refuseAttempt(state, session);
      if (refusal) return refusal;
      return { kind: 'paid', payment: takePayment(state, record, session, session.id) };
    },

    /** The attempt fails and takes nothing; the session stays open, as with a card that is declined. */
    failSession: (session: Session): FailOutcome => {
      const refusal = refuseAttempt(state, session);
      if (refusal) return refusal;
      if (session.failures >= MAX_FAILURES) return { kind: 'too_many_failures' };
      const event = buildEvent('payment.failed', session, { paymentId: null, sessionId: session.id });
      record({ kind: 'payment_failed', event });
      return { kind: 'failed', event: eventOf(state, event.id) };
    },

    /** Money outside any session: late, doubled or from nowhere, as real providers have it on a bad day. */
    takeStrayPayment: (money: Money): StrayOutcome =>
      isFull(state)
        ? { kind: 'book_full' }
        : { kind: 'paid', payment: takePayment(state, record, money, null) },

    /** From position `from` on; `next` is where the following page starts, null on the last one. */
    listPayments: (query: PaymentsQuery) => listFrom(state, query),

    findEvent: (id: string): Event | undefined => state.events.get(id),

    pendingEventIds: (): string[] => [...state.pendingEventIds],

    /** A delivery that is repeated by hand changes nothing that is already so, and writes nothing. */
    settleEvent: (id: string, delivery: 'delivered' | 'given_up'): void => {
      const current = eventOf(state, id).delivery;
      if (current === delivery || current === 'delivered') return;
      record({ kind: 'event_settled', eventId: id, delivery });
    },

    close: (): void => journal?.close(),
  };
}

export function hasExpired(session: Session): boolean {
  return session.status === 'open' && Date.now() >= session.expiresAtMs;
}

function openOnce(
  state: BookState,
  record: (entry: Entry) => void,
  idempotencyKey: string,
  terms: SessionTerms,
): OpenOutcome {
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

function listFrom(state: BookState, { reference, from, limit }: PaymentsQuery) {
  const positions =
    reference === undefined
      ? rangeOf(from, Math.min(from + limit + 1, state.payments.length))
      : (state.positionsByReference.get(reference) ?? []).filter((at) => at >= from);
  const payments = positions.slice(0, limit).flatMap((at) => state.payments[at] ?? []);
  return { payments, next: positions[limit] ?? null };
}

function sameTerms(session: Session, terms: SessionTerms): boolean {
  return (
    session.reference === terms.reference &&
    session.amount === terms.amount &&
    session.currency === terms.currency &&
    session.expiresAtMs === terms.expiresAtMs
  );
}

function refuseAttempt(state: BookState, session: Session): Refusal | undefined {
  if (session.paymentId !== null) {
    return { kind: 'already_paid', payment: paymentOf(state, session.paymentId) };
  }
  if (session.status === 'voided') return { kind: 'session_voided' };
  if (hasExpired(session)) return { kind: 'session_expired' };
  return isFull(state) ? { kind: 'book_full' } : undefined;
}

function takePayment(
  state: BookState,
  record: (entry: Entry) => void,
  money: Money,
  sessionId: string | null,
): Payment {
  const id = `pay_${ulid()}`;
  const event = buildEvent('payment.succeeded', money, { paymentId: id, sessionId });
  const { reference, amount, currency } = money;
  const payment = {
    id,
    reference,
    amount,
    currency,
    createdAtMs: event.createdAtMs,
    sessionId,
    eventId: event.id,
  };
  record({ kind: 'payment_taken', payment, event });
  return paymentOf(state, id);
}

function buildEvent(
  type: Event['type'],
  { reference, amount, currency }: Money,
  about: Pick<Event, 'paymentId' | 'sessionId'>,
): Omit<Event, 'delivery'> {
  return { id: `evt_${ulid()}`, type, createdAtMs: Date.now(), reference, amount, currency, ...about };
}

function isFull(state: BookState): boolean {
  return state.payments.length >= MAX_ENTRIES || state.events.size >= MAX_ENTRIES;
}

function rangeOf(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, offset) => from + offset);
}

function sessionOf(state: BookState, id: string): Session {
  const session = state.sessions.get(id);
  assert(session, `the book has no session ${id}`);
  return session;
}

function paymentOf(state: BookState, id: string): Payment {
  const payment = state.payments[state.positionsById.get(id) ?? -1];
  assert(payment, `the book has no payment ${id}`);
  return payment;
}

function eventOf(state: BookState, id: string): Event {
  const event = state.events.get(id);
  assert(event, `the book has no event ${id}`);
  return event;
}
