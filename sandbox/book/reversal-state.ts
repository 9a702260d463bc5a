/** The part of the book's content that goes back to the payers: refunds and disputes. */

import assert from 'node:assert/strict';
import type { Entry, OpenedDispute, Refund, RefundRefusal } from './entries.ts';
import type { MischiefState } from './mischief.ts';

/** pending: open | succeeded: the payer won | failed: the shop won. */
export type Dispute = OpenedDispute & { status: Refund['status'] };

export interface ReversalState {
  refunds: Map<string, Refund>;
  refundIdsByKey: Map<string, string>;
  /** Those whose outcome is yet to come. */
  slowRefunds: Map<string, Refund>;
  refusalsByKey: Map<string, RefundRefusal>;
  /** Payments of which a refund was refused. */
  refusedPaymentIds: Set<string>;
  disputes: Map<string, Dispute>;
  /** Of one payment, in the order in which they were made. */
  refundsByPayment: Map<string, Refund[]>;
  disputesByPayment: Map<string, Dispute[]>;
}

type ReversalEntry = Extract<
  Entry,
  {
    kind:
      | 'refund_made'
      | 'refund_refused'
      | 'refund_settled'
      | 'dispute_opened'
      | 'dispute_reopened'
      | 'dispute_closed';
  }
>;

export function createReversalState(): ReversalState {
  return {
    refunds: new Map(),
    refundIdsByKey: new Map(),
    slowRefunds: new Map(),
    refusalsByKey: new Map(),
    refusedPaymentIds: new Set(),
    disputes: new Map(),
    refundsByPayment: new Map(),
    disputesByPayment: new Map(),
  };
}

export function applyReversal(state: ReversalState, mischief: MischiefState, entry: ReversalEntry): void {
  switch (entry.kind) {
    case 'refund_made':
      addRefund(state, mischief, { ...entry.refund });
      return;
    case 'refund_refused':
      state.refusalsByKey.set(entry.refusal.idempotencyKey, entry.refusal);
      state.refusedPaymentIds.add(entry.refusal.paymentId);
      mischief.made.refunds += 1;
      mischief.struck.refund_refused += 1;
      return;
    case 'refund_settled': {
      const refund = state.refunds.get(entry.refundId);
      assert(refund, `the book has no refund ${entry.refundId}`);
      refund.status = entry.status;
      state.slowRefunds.delete(refund.id);
      return;
    }
    case 'dispute_opened': {
      const dispute: Dispute = { ...entry.dispute, status: 'pending' };
      state.disputes.set(dispute.id, dispute);
      append(state.disputesByPayment, dispute.paymentId, dispute);
      return;
    }
    case 'dispute_reopened': {
      const dispute = state.disputes.get(entry.disputeId);
      assert(dispute, `the book has no dispute ${entry.disputeId}`);
      dispute.status = 'pending';
      return;
    }
    case 'dispute_closed': {
      const dispute = state.disputes.get(entry.disputeId);
      assert(dispute, `the book has no dispute ${entry.disputeId}`);
      dispute.status = entry.won ? 'failed' : 'succeeded';
      return;
    }
    default:
      entry satisfies never;
  }
}

function addRefund(state: ReversalState, mischief: MischiefState, refund: Refund): void {
  state.refunds.set(refund.id, refund);
  append(state.refundsByPayment, refund.paymentId, refund);
  if (refund.idempotencyKey !== null) {
    state.refundIdsByKey.set(refund.idempotencyKey, refund.id);
    mischief.made.refunds += 1;
  }
  if (refund.dueAtMs !== null) {
    state.slowRefunds.set(refund.id, refund);
    mischief.struck.slow_refund += 1;
  }
}

function append<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key);
  if (list) list.push(item);
  else lists.set(key, [item]);
}
