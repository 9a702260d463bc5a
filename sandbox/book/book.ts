/**
 * The sandbox provider's own book: payment sessions, payments taken, refunds, disputes, and the events that
 * report them. Every change is written to the file, where there is one, before it takes effect. One change is
 * one line, so a crash leaves no half of one.
 */

import { MAX_ENTRIES } from './book-room.ts';
import { applyEntry, createBookState, eventOf, type BookState, type Event, type Fees } from './book-state.ts';
import { entrySchema, type Entry, type Payment, type PaymentPromise, type Refund } from './entries.ts';
import { openJournal } from './journal.ts';
import { decideCall, type MischiefSettings, type MischiefState } from './mischief.ts';
import { createReversalBook } from './reversal-book.ts';
import { createSessionBook } from './session-book.ts';

export interface PaymentsQuery {
  reference: string | undefined;
  sinceMs: number;
  untilMs: number;
  from: number;
  limit: number;
}

/** What the book owes: money to take, or a refund to end, at its time. */
export type Debt =
  | { kind: 'payment'; sessionId: string; dueAtMs: number }
  | { kind: 'refund'; refundId: string; dueAtMs: number };

export interface BookListener {
  event: (eventId: string) => void;
  debt: (debt: Debt) => void;
}

export type Book = Awaited<ReturnType<typeof openBook>>;

/** Without a file the book lives in memory alone. */
export async function openBook(file: string | undefined, fees: Fees) {
  const state = createBookState(fees);
  const journal =
    file === undefined
      ? undefined
      : await openJournal(file, (entry) => applyEntry(state, entrySchema.parse(entry)));
  let listener: BookListener | undefined;

  function record(entry: Entry): void {
    journal?.append(entry);
    applyEntry(state, entry);
    if (!listener) return;
    if ('event' in entry) listener.event(entry.event.id);
    const debt = debtOf(entry);
    if (debt) listener.debt(debt);
  }

  return {
    /** Is called for every new event and debt from now on, after it was written. */
    onRecorded: (newListener: BookListener): void => {
      listener = newListener;
    },

    ...createSessionBook(state, record),

    findPayment: (id: string): Payment | undefined => state.payments[state.positionsById.get(id) ?? -1],

    /** From position `from` on; `next` is where the following page starts, null on the last one. */
    listPayments: (query: PaymentsQuery) => listFrom(state, query),

    reversals: createReversalBook(state, record),

    findEvent: (id: string): Event | undefined => state.events.get(id),

    pendingEventIds: (): string[] => [...state.pendingEventIds],

    /** A redelivery that changes nothing writes nothing. */
    settleEvent: (id: string, delivery: 'delivered' | 'given_up'): void => {
      const current = eventOf(state, id).delivery;
      if (current === delivery || current === 'delivered') return;
      record({ kind: 'event_settled', eventId: id, delivery });
    },

    /** The debts of the time before a restart, to be settled after it. */
    debts: (): Debt[] => listDebts(state),

    mischief: (): Readonly<MischiefState> => state.mischief,

    /** Whether a call of the shop is refused as one too many. */
    limitsCall: (): boolean => {
      const { isLimited } = decideCall(state.mischief);
      if (!isLimited || state.mischief.struck.rate_limited >= MAX_ENTRIES) return false;
      record({ kind: 'call_limited' });
      return true;
    },

    setMischief: (settings: MischiefSettings): void => record({ kind: 'mischief_set', settings }),

    close: (): void => journal?.close(),
  };
}

function listFrom(state: BookState, { reference, sinceMs, untilMs, from, limit }: PaymentsQuery) {
  const start = Math.max(from, positionAt(state, sinceMs));
  const end = positionAt(state, untilMs);
  const positions =
    reference === undefined
      ? rangeOf(start, Math.min(start + limit + 1, end))
      : (state.positionsByReference.get(reference) ?? []).filter((at) => at >= start && at < end);
  const payments = positions.slice(0, limit).flatMap((at) => state.payments[at] ?? []);
  return { payments, next: positions[limit] ?? null };
}

/** Of the first payment at or after the time. */
function positionAt({ payments }: BookState, timeMs: number): number {
  const position = payments.findIndex(({ createdAtMs }) => createdAtMs >= timeMs);
  return position === -1 ? payments.length : position;
}

function debtOf(entry: Entry): Debt | undefined {
  if (entry.kind === 'payment_promised') return promisedPayment(entry.promise);
  return entry.kind === 'refund_made' ? slowRefund(entry.refund) : undefined;
}

function listDebts({ promises, reversals }: BookState): Debt[] {
  return [
    ...[...promises.values()].map(promisedPayment),
    ...[...reversals.slowRefunds.values()].flatMap((refund) => slowRefund(refund) ?? []),
  ];
}

function promisedPayment({ sessionId, dueAtMs }: PaymentPromise): Debt {
  return { kind: 'payment', sessionId, dueAtMs };
}

function slowRefund({ id, dueAtMs }: Refund): Debt | undefined {
  return dueAtMs === null ? undefined : { kind: 'refund', refundId: id, dueAtMs };
}

function rangeOf(from: number, to: number): number[] {
  return Array.from({ length: Math.max(0, to - from) }, (_, offset) => from + offset);
}
