/** Events: what happened at the provider, and the notices by which the shop learns of it. */

import { ulid } from 'ulidx';
import type { MoneyNotice } from '../../src/providers/remote-wire.ts';
import type { BookState, Event } from './book-state.ts';
import type { EventAbout, WrittenEvent } from './entries.ts';
import { decideFate } from './mischief.ts';

interface Money {
  reference: string;
  amount: number;
  currency: string;
  /** What the sandbox charges for it; none for a refund or a failed attempt. */
  fee?: number | null;
}

/** What the shop gives to a session, opaque to the sandbox. */
interface Carried {
  signedOrder: string | null;
  deployment: string | null;
}

/** A new event, with what will become of its callback. */
export function buildEvent(
  { mischief }: BookState,
  { reference, amount, currency, fee = null }: Money,
  about: EventAbout,
): WrittenEvent {
  return {
    id: `evt_${ulid()}`,
    createdAtMs: Date.now(),
    reference,
    amount,
    currency,
    fee,
    fate: decideFate(mischief, about.type),
    ...about,
  };
}

/**
 * The same event always gives the same notice: only the signature's time differs between tries.
 * @param carried what the shop gave to the session of the event's payment
 */
export function buildNotice(event: Event, carried: Carried): MoneyNotice {
  const timestamp = new Date(event.createdAtMs).toISOString();
  const { reference, amount, currency, fee } = event;
  const { signedOrder, deployment } = carried;
  const money = { reference, amount, currency, deployment };
  switch (event.type) {
    case 'payment.succeeded': {
      const of = { payment_id: event.paymentId, session_id: event.sessionId };
      return { type: event.type, timestamp, data: { ...of, ...money, signed_order: signedOrder, fee } };
    }
    case 'payment.failed': {
      const of = { payment_id: null, session_id: event.sessionId };
      return { type: event.type, timestamp, data: { ...of, ...money } };
    }
    case 'refund.updated': {
      const of = { refund_id: event.refundId, payment_id: event.paymentId };
      return { type: event.type, timestamp, data: { ...of, ...money, status: event.status, fee } };
    }
    case 'dispute.opened': {
      const of = { dispute_id: event.disputeId, payment_id: event.paymentId };
      return { type: event.type, timestamp, data: { ...of, ...money, fee } };
    }
    case 'dispute.closed': {
      const of = { dispute_id: event.disputeId, payment_id: event.paymentId };
      return { type: event.type, timestamp, data: { ...of, ...money, won: event.won, fee } };
    }
    default:
      return event satisfies never;
  }
}
