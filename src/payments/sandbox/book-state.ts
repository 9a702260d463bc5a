/** The book's content as a fold over its entries, so that what is live and what is replayed cannot differ. */

import assert from 'node:assert/strict';

import { z } from 'zod';

import { amountSchema, currencySchema, referenceSchema } from './wire.ts';

/** What a session, a payment and an event have in common. */
const moneySchema = z.object({
  id: z.string(),
  reference: referenceSchema,
  amount: amountSchema,
  currency: currencySchema,
  createdAtMs: z.int(),
});

const openedSessionSchema = moneySchema.extend({ idempotencyKey: z.string(), expiresAtMs: z.int() });

const paymentSchema = moneySchema.extend({ sessionId: z.string().nullable(), eventId: z.string() });

const eventSchema = moneySchema.extend({
  type: z.enum(['payment.succeeded', 'payment.failed']),
  paymentId: z.string().nullable(),
  sessionId: z.string().nullable(),
});

export const entrySchema = z.discriminatedUnion('kind', [
  z.object({ kind: z.literal('session_opened'), session: openedSessionSchema }),
  z.object({ kind: z.literal('session_voided'), sessionId: z.string() }),
  z.object({ kind: z.literal('payment_taken'), payment: paymentSchema, event: eventSchema }),
  z.object({ kind: z.literal('payment_failed'), event: eventSchema }),
  z.object({
    kind: z.literal('event_settled'),
    eventId: z.string(),
    delivery: z.enum(['delivered', 'given_up']),
  }),
]);
export type Entry = z.infer<typeof entrySchema>;

export type Session = z.infer<typeof openedSessionSchema> & {
  /** An open session past `expiresAtMs` has expired; time alone does that, so it is not written down. */
  status: 'open' | 'paid' | 'voided';
  paymentId: string | null;
  /** Attempts that failed. */
  failures: number;
};
export type Payment = z.infer<typeof paymentSchema>;
export type Event = z.infer<typeof eventSchema> & { delivery: 'pending' | 'delivered' | 'given_up' };

export interface BookState {
  sessions: Map<string, Session>;
  sessionIdsByKey: Map<string, string>;
  /** In the order in which they were taken; a position never changes, so it serves as the cursor. */
  payments: Payment[];
  positionsById: Map<string, number>;
  positionsByReference: Map<string, number[]>;
  events: Map<string, Event>;
  pendingEventIds: Set<string>;
}

export function createBookState(): BookState {
  return {
    sessions: new Map(),
    sessionIdsByKey: new Map(),
    payments: [],
    positionsById: new Map(),
    positionsByReference: new Map(),
    events: new Map(),
    pendingEventIds: new Set(),
  };
}

export function applyEntry(state: BookState, entry: Entry): void {
  switch (entry.kind) {
    case 'session_opened':
      state.sessions.set(entry.session.id, {
        ...entry.session,
        status: 'open',
        paymentId: null,
        failures: 0,
      });
      state.sessionIdsByKey.set(entry.session.idempotencyKey, entry.session.id);
      return;
    case 'session_voided':
      openSession(state, entry.sessionId).status = 'voided';
      return;
    case 'payment_taken':
      addPayment(state, entry.payment);
      addEvent(state, entry.event);
      return;
    case 'payment_failed':
      assert(entry.event.sessionId !== null, 'only a session can see a payment fail');
      openSession(state, entry.event.sessionId).failures += 1;
      addEvent(state, entry.event);
      return;
    case 'event_settled': {
      const event = state.events.get(entry.eventId);
      assert(event, `the book has no event ${entry.eventId}`);
      event.delivery = entry.delivery;
      state.pendingEventIds.delete(entry.eventId);
      return;
    }
    default:
      entry satisfies never;
  }
}

function openSession(state: BookState, id: string): Session {
  const session = state.sessions.get(id);
  assert(session?.status === 'open', `the book has no open session ${id}`);
  return session;
}

function addPayment(state: BookState, payment: Payment): void {
  if (payment.sessionId !== null) {
    const session = openSession(state, payment.sessionId);
    session.status = 'paid';
    session.paymentId = payment.id;
  }
  const position = state.payments.push(payment) - 1;
  state.positionsById.set(payment.id, position);
  const positions = state.positionsByReference.get(payment.reference);
  if (positions) positions.push(position);
  else state.positionsByReference.set(payment.reference, [position]);
}

function addEvent(state: BookState, event: z.infer<typeof eventSchema>): void {
  state.events.set(event.id, { ...event, delivery: 'pending' });
  state.pendingEventIds.add(event.id);
}
