/** What is in the book, as it is answered. */

import type { Book } from './book.ts';
import type { Session } from './book-state.ts';
import type { Payment, Refund } from './entries.ts';
import { ProblemError } from './errors.ts';
import type { Dispute } from './reversal-state.ts';
import { hasExpired, type Refusal } from './session-book.ts';
import type { AlreadyPaidPayment, PaymentReply, ReversalReply, SessionReply } from './wire.ts';

/** Whoever has paid is told of the payment that is coming, whatever became of the session. */
export function statusOf(session: Session): SessionReply['status'] {
  if (session.promise) return 'processing';
  return hasExpired(session) ? 'expired' : session.status;
}

export function toSessionReply(session: Session, publicUrl: string): SessionReply {
  return {
    id: session.id,
    url: `${publicUrl}/pay/${session.id}`,
    status: statusOf(session),
    reference: session.reference,
    amount: session.amount,
    currency: session.currency,
    expires_at: new Date(session.expiresAtMs).toISOString(),
    created_at: new Date(session.createdAtMs).toISOString(),
    payment_id: session.paymentId,
  };
}

export function toPaymentReply(payment: Payment, book: Book): PaymentReply {
  return {
    id: payment.id,
    reference: payment.reference,
    amount: payment.amount,
    currency: payment.currency,
    session_id: payment.sessionId,
    sealed_order: payment.sealedOrder,
    returned: book.reversals.returnedOf(payment),
    disputed: book.reversals.isDisputed(payment),
    event_id: payment.eventId,
    created_at: new Date(payment.createdAtMs).toISOString(),
  };
}

export function toRefundReply(refund: Refund): ReversalReply {
  return toReversalReply('refund', refund);
}

export function toDisputeReply(dispute: Dispute): ReversalReply {
  return toReversalReply('dispute', dispute);
}

/** From outside, both look alike. */
function toReversalReply(kind: ReversalReply['kind'], reversal: Refund | Dispute): ReversalReply {
  const { id, paymentId, reference, amount, currency, status, createdAtMs } = reversal;
  const created_at = new Date(createdAtMs).toISOString();
  return { kind, id, payment_id: paymentId, reference, amount, currency, status, created_at };
}

export function refuse(refusal: Refusal): ProblemError {
  if (refusal.kind !== 'already_paid') return new ProblemError(refusal.kind);
  const { id, reference, amount, currency, sealedOrder } = refusal.payment;
  const payment = { id, reference, amount, currency, sealed_order: sealedOrder } satisfies AlreadyPaidPayment;
  return new ProblemError('already_paid', { payment });
}
