/** The provider port: all that Holdfast asks of whoever takes the money. */

import type { PaymentNotice, ProviderPayment } from '../domain/payment.ts';

export interface SessionRequest {
  /** Our id of the session; also the provider call's idempotency key, so a repeat opens no second one. */
  sessionId: string;
  orderNo: string;
  /** Minor units. */
  amount: number;
  currency: string;
  /** Unix time in ms after which the provider takes no payment for it. */
  expiresAtMs: number;
}

interface ProviderSession {
  providerSessionId: string;
  /** Where the shopper pays. */
  url: string;
}

type VoidOutcome = { kind: 'voided' } | { kind: 'already_paid'; payment: ProviderPayment };

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
  /** Everything it took, from its own book, oldest first: for audits. Throws when the provider is away. */
  listPayments(): AsyncIterable<ProviderPayment>;
  /**
   * Checks the signature over the raw bytes, then parses.
   * @throws InvalidSignatureError | MalformedNoticeError
   */
  verifyNotice(rawBody: string, headers: Readonly<Record<string, string>>): PaymentNotice;
}
