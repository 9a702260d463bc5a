/** The book's content in the shape of the API's replies. */

import type { AlreadyPaidPayment, ReversalReply, SessionReply } from '../../src/providers/remote-wire.ts';
import type { Session } from '../book/book-state.ts';
import type { Book } from '../book/book.ts';
import type { Payment, Refund } from '../book/entries.ts';
import type { Dispute } from '../book/reversal-state.ts';
import { hasExpired, type Refusal } from '../book/session-book.ts';
import type { BookedPayment } from '../test-wire.ts';
import { ProblemError } from './errors.ts';

/** Once the shopper has paid, the payment that is coming counts, whatever became of the session. */
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
    shop_reference: session.shopReference,
    metadata: session.metadata,
    expires_at: new Date(session.expiresAtMs).toISOString(),
    created_at: new Date(session.createdAtMs).toISOString(),
    payment_id: session.paymentId,
  };
}

export function toPaymentReply(payment: Payment, book: Book): BookedPayment {
  return {
    id: payment.id,
    reference: payment.reference,
    amount: payment.amount,
    currency: payment.currency,
    session_id: payment.sessionId,
    signed_order: payment.signedOrder,
    deployment: payment.deployment,
    returned: book.reversals.returnedOf(payment),
    disputed: book.reversals.isDisputed(payment),
    fee: payment.fee,
    event_id: payment.eventId,
    created_at: new Date(payment.createdAtMs).toISOString(),
  };
}

export function toRefundReply(refund: Refund): ReversalReply {
  return toReversalReply('refund', { ...refund, fee: null });
}

export function toDisputeReply(dispute: Dispute): ReversalReply {
  return toReversalReply('dispute', dispute);
}

/** Refunds and disputes have the same shape in a reply. */
function toReversalReply(
  kind: ReversalReply['kind'],
  reversal: (Refund & { fee: null }) | Dispute,
): ReversalReply {
  const { id, paymentId, reference, amount, currency, status, fee, createdAtMs } = reversal;
  const created_at = new Date(createdAtMs).toISOString();
  return { kind, id, payment_id: paymentId, reference, amount, currency, status, fee, created_at };
}

export function refuse(refusal: Refusal): ProblemError {
  if (refusal.kind !== 'already_paid') return new ProblemError(refusal.kind);
  const { id, reference, amount, currency, signedOrder } = refusal.payment;
  const payment = { id, reference, amount, currency, signed_order: signedOrder } satisfies AlreadyPaidPayment;
  return new ProblemError('already_paid', { payment });
}
