/** The provider port: all that Holdfast asks of whoever takes the money. */

import type { ListedPayment, PaymentNotice, ProviderPayment, Reversal } from '../domain/payment.ts';

export interface SessionRequest {
  /** Our id of the session; also the provider call's idempotency key, so a repeat opens no second one. */
  sessionId: string;
  orderNo: string;
  /** Minor units. */
  amount: number;
  currency: string;
  /** Unix time in ms after which the provider takes no payment for it. */
  expiresAtMs: number;
  /** Unix time in ms at which the session was written down; for providers whose sessions have a least length. */
  createdAtMs: number;
  /** The order's essentials, signed (`signed-order.ts`), at most `MAX_SIGNED_ORDER_CHARS`; comes back with each payment of the session. */
  signedOrder: string;
}

export interface RefundRequest {
  /** The provider call's idempotency key: a repeat with the same key makes no second refund. */
  refundKey: string;
  providerPaymentId: string;
  /** Minor units: what is left to go back. */
  amount: number;
  currency: string;
}

interface ProviderSession {
  providerSessionId: string;
  /** Where the shopper pays. */
  url: string;
}

type VoidOutcome = { kind: 'voided' } | { kind: 'already_paid'; payment: ProviderPayment };

/** Thrown by `refund` when the provider has decided against it: nothing was refunded, and the same key will be answered the same. */
export class RefundRefusedError extends Error {
  override name = 'RefundRefusedError';
}

/** Thrown by `verifyNotice` for a forged or stale notice: answer 401, store nothing. */
export class InvalidSignatureError extends Error {
  override name = 'InvalidSignatureError';
}

/** Thrown by `verifyNotice` for an authentic notice of a shape we do not know: answer 400. */
export class MalformedNoticeError extends Error {
  override name = 'MalformedNoticeError';
}

export interface PaymentProvider {
  /** Short name, recorded with every payment. */
  readonly name: string;
  /** Opens a session; the same `sessionId` again answers the same session. Throws when the provider is away. */
  openSession(request: SessionRequest): Promise<ProviderSession>;
  /** Closes a session for good, idempotently. Throws when the provider is away. */
  voidSession(providerSessionId: string): Promise<VoidOutcome>;
  /**
   * Sends money back to whoever paid. Throws `RefundRefusedError`, or any other error when the outcome is unknown: then look up
   * with `listReversals`, or repeat with the same key.
   */
  refund(request: RefundRequest): Promise<Reversal>;
  /** All refunds of a payment, also those made at the provider by hand, and all disputes about it. Throws when the provider is away. */
  listReversals(providerPaymentId: string): Promise<Reversal[]>;
  /**
   * What it took, from its own book, without a further call for each payment: one that cannot be looked up must not hide the
   * others. Throws when the provider is away.
   * @param sinceMs Unix time in ms: only payments begun at or after it; without it everything
   */
  listPayments(sinceMs?: number): AsyncIterable<ListedPayment>;
  /**
   * Checks the signature over the raw bytes, then parses.
   * @throws InvalidSignatureError | MalformedNoticeError
   */
  verifyNotice(rawBody: string, headers: Readonly<Record<string, string>>): PaymentNotice;
}
