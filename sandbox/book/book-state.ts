/**
 * The book's content, built from its entries alone, so that a restart reads the same content as was live
 * before.
 */

import assert from 'node:assert/strict';
import type { Entry, OpenedSession, Payment, PaymentPromise, WrittenEvent } from './entries.ts';
import { countFate, createMischiefState, nothingMade, type MischiefState } from './mischief.ts';
import { createReversalState, applyReversal, type ReversalState } from './reversal-state.ts';

export type Session = OpenedSession & {
  /** An open session past `expiresAtMs` has expired; time alone does that, so it is not written down. */
  status: 'open' | 'paid' | 'voided';
  paymentId: string | null;
  /** The shopper has paid, and the money comes later. */
  promise: PaymentPromise | null;
  /** Attempts that failed. */
  failures: number;
};
/** `dropped`: never sent, unless a redelivery is asked for. */
export type Event = WrittenEvent & { delivery: 'pending' | 'delivered' | 'given_up' | 'dropped' };

/** What the sandbox charges the shop. It reports no fee of nothing. */
export interface Fees {
  /** Hundredths of a percent of each payment. */
  paidBasisPoints: number;
  /** Minor units of each dispute, won or lost. */
  disputed: number;
}

export interface BookState {
  fees: Fees;
  sessions: Map<string, Session>;
  sessionIdsByKey: Map<string, string>;
  /** By session: money that is yet to be taken. */
  promises: Map<string, PaymentPromise>;
  /** In the order in which they were taken; a position never changes, so it serves as the cursor. */
  payments: Payment[];
  positionsById: Map<string, number>;
  positionsByReference: Map<string, number[]>;
  reversals: ReversalState;
  events: Map<string, Event>;
  pendingEventIds: Set<string>;
  mischief: MischiefState;
}

export function createBookState(fees: Fees): BookState {
  return {
    fees,
    sessions: new Map(),
    sessionIdsByKey: new Map(),
    promises: new Map(),
    payments: [],
    positionsById: new Map(),
    positionsByReference: new Map(),
    reversals: createReversalState(),
    events: new Map(),
    pendingEventIds: new Set(),
    mischief: createMischiefState(),
  };
}

export function applyEntry(state: BookState, entry: Entry): void {
  switch (entry.kind) {
    case 'session_opened':
      state.sessions.set(entry.session.id, {
        ...entry.session,
        status: 'open',
        paymentId: null,
        promise: null,
        failures: 0,
      });
      state.sessionIdsByKey.set(entry.session.idempotencyKey, entry.session.id);
      return;
    case 'session_voided':
      openSession(state, entry.sessionId).status = 'voided';
      return;
    case 'payment_promised':
      openSession(state, entry.promise.sessionId).promise = entry.promise;
      state.promises.set(entry.promise.sessionId, entry.promise);
      state.mischief.made.payments += 1;
      state.mischief.struck.late += 1;
      return;
    case 'payment_taken':
      addPayment(state, entry.payment);
      addEvent(state, entry.event);
      return;
    case 'payment_failed':
      assert(entry.event.type === 'payment.failed', 'the event of a failed payment has its type');
      openSession(state, entry.event.sessionId).failures += 1;
      addEvent(state, entry.event);
      return;
    case 'refund_made':
    case 'refund_settled':
    case 'dispute_opened':
    case 'dispute_reopened':
    case 'dispute_closed':
      applyReversal(state.reversals, state.mischief, entry);
      addEvent(state, entry.event);
      return;
    case 'refund_refused':
      applyReversal(state.reversals, state.mischief, entry);
      return;
    case 'event_settled':
      eventOf(state, entry.eventId).delivery = entry.delivery;
      state.pendingEventIds.delete(entry.eventId);
      return;
    case 'call_limited':
      state.mischief.struck.rate_limited += 1;
      return;
    case 'mischief_set':
      state.mischief.settings = entry.settings;
      state.mischief.made = nothingMade();
      return;
    default:
      entry satisfies never;
  }
}

export function sessionOf(state: BookState, id: string): Session {
  const session = state.sessions.get(id);
  assert(session, `the book has no session ${id}`);
  return session;
}

export function paymentOf(state: BookState, id: string): Payment {
  const payment = state.payments[state.positionsById.get(id) ?? -1];
  assert(payment, `the book has no payment ${id}`);
  return payment;
}

export function eventOf(state: BookState, id: string): Event {
  const event = state.events.get(id);
  assert(event, `the book has no event ${id}`);
  return event;
}

function openSession(state: BookState, id: string): Session {
  const session = sessionOf(state, id);
  assert(session.status === 'open', `session ${id} is not open`);
  return session;
}

function addPayment(state: BookState, written: Payment): void {
  const payment = { ...written };
  if (payment.sessionId !== null) {
    const session = sessionOf(state, payment.sessionId);
    // Promised money comes whatever became of its session.
    assert(session.paymentId === null, `session ${session.id} is paid already`);
    assert(session.status === 'open' || session.promise, `session ${session.id} takes no money`);
    if (!session.promise) state.mischief.made.payments += 1;
    if (payment.amount < session.amount) state.mischief.struck.wrong_amount += 1;
    session.status = 'paid';
    session.paymentId = payment.id;
    session.promise = null;
    state.promises.delete(session.id);
    payment.signedOrder = session.signedOrder;
    payment.deployment = session.deployment;
  }
  const position = state.payments.push(payment) - 1;
  state.positionsById.set(payment.id, position);
  const positions = state.positionsByReference.get(payment.reference);
  if (positions) positions.push(position);
  else state.positionsByReference.set(payment.reference, [position]);
}

function addEvent(state: BookState, event: WrittenEvent): void {
  state.events.set(event.id, { ...event, delivery: event.fate.drop ? 'dropped' : 'pending' });
  if (!event.fate.drop) state.pendingEventIds.add(event.id);
  countFate(state.mischief, event.fate);
}
