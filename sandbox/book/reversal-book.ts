/** The part of the book that gives money back: refunds, by the shop or by provider staff, and disputes. */

import { ulid } from 'ulidx';
import { hasReversalRoom, hasRoom } from './book-room.ts';
import type { BookState } from './book-state.ts';
import type { Entry, Payment, Refund } from './entries.ts';
import { buildEvent } from './events.ts';
import { decideRefund } from './mischief.ts';
import type { Dispute } from './reversal-state.ts';

/**
 * Refunds of one payment, and disputes: no shop makes so many parts of one, and a list of them stays one
 * short answer.
 */
const MAX_REVERSALS_PER_PAYMENT = 100;

export interface RefundTerms {
  amount: number;
  currency: string;
}

type NoRoom =
  /** More than what is left, or nothing is. */
  { kind: 'refund_exceeds_payment' | 'too_many_refunds' | 'book_full' };
export type RefundOutcome =
  | { kind: 'made' | 'repeated'; refund: Refund }
  | { kind: 'currency_mismatch' | 'refund_refused' | 'idempotency_key_reused' }
  | NoRoom;
export type StaffRefundOutcome = { kind: 'made'; refund: Refund } | NoRoom;
export type FailRefundOutcome = { kind: 'failed' | 'book_full' };
export type OpenDisputeOutcome = { kind: 'opened'; dispute: Dispute } | NoRoom;
/** The first two: it is as asked for already. The money may have gone back otherwise since. */
type DisputeObstacle = { kind: 'dispute_closed' | 'dispute_open' } | NoRoom;
export type CloseDisputeOutcome = { kind: 'closed' } | DisputeObstacle;
export type ReopenDisputeOutcome = { kind: 'reopened' } | DisputeObstacle;

export function createReversalBook(state: BookState, record: (entry: Entry) => void) {
  const { reversals } = state;

  function settle(refund: Refund, status: 'succeeded' | 'failed'): void {
    const about = {
      type: 'refund.updated',
      refundId: refund.id,
      paymentId: refund.paymentId,
      status,
    } as const;
    record({ kind: 'refund_settled', refundId: refund.id, status, event: buildEvent(state, refund, about) });
  }

  return {
    /** The key names the refund, or its refusal: the same terms again find it, other terms are refused. */
    refund: (payment: Payment, idempotencyKey: string, terms: RefundTerms): RefundOutcome => {
      const before = findByKey(state, payment, idempotencyKey, terms);
      if (before) return before;
      if (terms.currency !== payment.currency) return { kind: 'currency_mismatch' };
      const obstacle = findObstacle(state, payment, terms.amount);
      if (obstacle) return obstacle;
      const refusedBefore = reversals.refusedPaymentIds.has(payment.id);
      const { isRefused, delayMs } = decideRefund(state.mischief, refusedBefore);
      if (isRefused) {
        const refusal = {
          idempotencyKey,
          paymentId: payment.id,
          amount: terms.amount,
          currency: terms.currency,
        };
        record({ kind: 'refund_refused', refusal });
        return { kind: 'refund_refused' };
      }
      return {
        kind: 'made',
        refund: make(state, record, payment, terms.amount, { idempotencyKey, delayMs }),
      };
    },

    /** By provider staff: no mischief, and done at once. Without an amount, all that is left. */
    refundByStaff: (payment: Payment, amount = leftOf(state, payment)): StaffRefundOutcome => {
      const obstacle = findObstacle(state, payment, amount);
      if (obstacle) return obstacle;
      const manner = { idempotencyKey: null, delayMs: null };
      return { kind: 'made', refund: make(state, record, payment, amount, manner) };
    },

    findRefund: (id: string): Refund | undefined => reversals.refunds.get(id),

    /** A slow refund has come to its end. Does nothing when it has another already. */
    endSlowRefund: (id: string): void => {
      const refund = reversals.refunds.get(id);
      if (refund?.status === 'pending') settle(refund, 'succeeded');
    },

    /** The payer's bank sent it back; that happens to refunds that had succeeded, too. */
    failRefund: (refund: Refund): FailRefundOutcome => {
      // A slow refund's event has its room already; one that is to be taken back needs more.
      if (refund.status === 'succeeded' && !hasRoom(state)) return { kind: 'book_full' };
      if (refund.status !== 'failed') settle(refund, 'failed');
      return { kind: 'failed' };
    },

    /** Each in the order in which they were made. */
    list: ({ id }: Payment): { refunds: readonly Refund[]; disputes: readonly Dispute[] } => ({
      refunds: reversals.refundsByPayment.get(id) ?? [],
      disputes: reversals.disputesByPayment.get(id) ?? [],
    }),

    /** Without an amount, all that is left. */
    openDispute: (payment: Payment, amount = leftOf(state, payment)): OpenDisputeOutcome => {
      const obstacle = findObstacle(state, payment, amount);
      if (obstacle) return obstacle;
      const about = { type: 'dispute.opened', disputeId: `dp_${ulid()}`, paymentId: payment.id } as const;
      const { reference, currency } = payment;
      const fee = state.fees.disputed || null;
      const event = buildEvent(state, { reference, amount, currency, fee }, about);
      const { createdAtMs } = event;
      const { disputeId: id, paymentId } = about;
      const dispute = { id, paymentId, reference, amount, currency, createdAtMs, fee };
      record({ kind: 'dispute_opened', dispute, event });
      return { kind: 'opened', dispute: { ...dispute, status: 'pending' } };
    },

    findDispute: (id: string): Dispute | undefined => reversals.disputes.get(id),

    /** A bank may take its decision back: the dispute is open again, under its own id. */
    reopenDispute: (dispute: Dispute, payment: Payment): ReopenDisputeOutcome => {
      if (dispute.status === 'pending') return { kind: 'dispute_open' };
      if (isLacking(state, payment, dispute)) return { kind: 'refund_exceeds_payment' };
      if (!hasRoom(state)) return { kind: 'book_full' };
      const { id: disputeId, paymentId } = dispute;
      const event = buildEvent(state, dispute, { type: 'dispute.opened', disputeId, paymentId });
      record({ kind: 'dispute_reopened', disputeId, event });
      return { kind: 'reopened' };
    },

    /** Won by the shop, or lost: then the payer has the money back. A closed one may be decided otherwise. */
    closeDispute: (dispute: Dispute, payment: Payment, won: boolean): CloseDisputeOutcome => {
      if (dispute.status === (won ? 'failed' : 'succeeded')) return { kind: 'dispute_closed' };
      if (!won && isLacking(state, payment, dispute)) return { kind: 'refund_exceeds_payment' };
      if (!hasRoom(state)) return { kind: 'book_full' };
      const { id: disputeId, paymentId } = dispute;
      const event = buildEvent(state, dispute, { type: 'dispute.closed', disputeId, paymentId, won });
      record({ kind: 'dispute_closed', disputeId, won, event });
      return { kind: 'closed' };
    },

    /** What the payer has back for good, in minor units. */
    returnedOf: (payment: Payment): number =>
      sum(reversalsOf(state, payment).filter(({ status }) => status === 'succeeded')),

    /** A dispute is open. */
    isDisputed: ({ id }: Payment): boolean =>
      (reversals.disputesByPayment.get(id) ?? []).some(({ status }) => status === 'pending'),
  };
}

function findByKey(
  { reversals }: BookState,
  { id: paymentId }: Payment,
  idempotencyKey: string,
  { amount, currency }: RefundTerms,
): RefundOutcome | undefined {
  const refund = reversals.refunds.get(reversals.refundIdsByKey.get(idempotencyKey) ?? '');
  const known = refund ?? reversals.refusalsByKey.get(idempotencyKey);
  if (!known) return undefined;
  if (known.paymentId !== paymentId || known.amount !== amount || known.currency !== currency) {
    return { kind: 'idempotency_key_reused' };
  }
  return refund ? { kind: 'repeated', refund } : { kind: 'refund_refused' };
}

function findObstacle(state: BookState, payment: Payment, amount: number): NoRoom | undefined {
  if (amount <= 0 || amount > leftOf(state, payment)) return { kind: 'refund_exceeds_payment' };
  if (reversalsOf(state, payment).length >= MAX_REVERSALS_PER_PAYMENT) return { kind: 'too_many_refunds' };
  return hasReversalRoom(state) ? undefined : { kind: 'book_full' };
}

/** A dispute that the shop won takes its money again, and that has gone back in another way. */
function isLacking(state: BookState, payment: Payment, { status, amount }: Dispute): boolean {
  return status === 'failed' && amount > leftOf(state, payment);
}

/** What is under way to the payer cannot be sent a second time. */
function leftOf(state: BookState, payment: Payment): number {
  return payment.amount - sum(reversalsOf(state, payment).filter(({ status }) => status !== 'failed'));
}

function reversalsOf({ reversals }: BookState, { id }: Payment): (Refund | Dispute)[] {
  return [...(reversals.refundsByPayment.get(id) ?? []), ...(reversals.disputesByPayment.get(id) ?? [])];
}

function sum(items: readonly { amount: number }[]): number {
  return items.reduce((total, { amount }) => total + amount, 0);
}

function make(
  state: BookState,
  record: (entry: Entry) => void,
  { id: paymentId, reference, currency }: Payment,
  amount: number,
  { idempotencyKey, delayMs }: { idempotencyKey: string | null; delayMs: number | null },
): Refund {
  const id = `re_${ulid()}`;
  const status = delayMs === null ? 'succeeded' : 'pending';
  const about = { type: 'refund.updated', refundId: id, paymentId, status } as const;
  const event = buildEvent(state, { reference, amount, currency }, about);
  const { createdAtMs } = event;
  const dueAtMs = delayMs === null ? null : createdAtMs + delayMs;
  const refund: Refund = {
    id,
    paymentId,
    reference,
    amount,
    currency,
    status,
    createdAtMs,
    idempotencyKey,
    dueAtMs,
  };
  record({ kind: 'refund_made', refund, event });
  return refund;
}
