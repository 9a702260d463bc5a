/**
 * The port to payment providers: all that Holdfast needs of one. Each has an adapter that implements it;
 * docs/payments.md says how to add one.
 */

import { redactCredentials } from '../log.ts';
import type { ListedPayment, PaymentNotice, ProviderPayment, Refusal, Reversal } from '../money/payment.ts';

export interface SessionRequest {
  /** Holdfast's id of the session, and the call's idempotency key: a repeat opens no second session. */
  sessionId: string;
  orderNo: string;
  /** Minor units. */
  amount: number;
  currency: string;
  /** Unix time in ms after which the provider accepts no payment for the session. */
  expiresAtMs: number;
  /** Unix time in ms at which the session was recorded, for providers whose sessions have a least length. */
  createdAtMs: number;
  /**
   * The signed order (`signed-order.ts`), at most `MAX_SIGNED_ORDER_CHARS` long. It comes back with each
   * payment of the session.
   */
  signedOrder: string;
  /** The shop's own number of the order; null: it gave none. */
  reference: string | null;
  /** The shop's own data about the order (`MAX_METADATA_BYTES`), for the provider's pages and exports. */
  metadata: Readonly<Record<string, string>>;
}

export interface RefundRequest {
  /** The idempotency key of the call: a repeat with the same key makes no second refund. */
  refundKey: string;
  providerPaymentId: string;
  /** Minor units that are still to be refunded. */
  amount: number;
  currency: string;
}

/** What is to be paid: `amount` in minor units. */
export interface Price {
  amount: number;
  currency: string;
}

interface ProviderSession {
  providerSessionId: string;
  /** The address of the page where the shopper pays. */
  url: string;
  /** Unix time in ms at which it expires there by itself; null: the provider does not say. */
  expiresAtMs: number | null;
}

type VoidOutcome = { kind: 'voided' } | { kind: 'already_paid'; payment: ProviderPayment };

/**
 * Thrown by `openSession` when the provider has looked at the request and refused it: this request opened
 * nothing, and a repeat with the same `sessionId` gets the same answer.
 */
export class SessionRefusedError extends Error {
  override name = 'SessionRefusedError';
}

/**
 * Thrown by `refund` when the provider has refused: nothing was refunded, and a repeat with the same key gets
 * the same answer.
 */
export class RefundRefusedError extends Error {
  override name = 'RefundRefusedError';
  readonly refusal: Refusal;
  /** No repeat of the same request can succeed, under whatever key: something else has to change first. */
  readonly isForGood: boolean;

  constructor({ isForGood, ...said }: Refusal & { isForGood: boolean }, options?: ErrorOptions) {
    const refusal = cleanRefusal(said);
    super(`the provider refused the refund: ${refusal.code}: ${refusal.message}`, options);
    this.refusal = refusal;
    this.isForGood = isForGood;
  }
}

/** Characters: a code is a word or two, and a message a sentence, which a page of an operator shows whole. */
const MAX_CODE_CHARS = 64;
const MAX_MESSAGE_CHARS = 300;
/** Keys of providers (`sk_live_…`, `whsec_…`), bearer tokens, and numbers as long as those of cards. */
const SECRETS = /\b(?:sk|rk|pk|whsec)_[\w*]+|\bBearer\s+\S+|\b(?:\d[ -]?){11,}\d\b/gi;

function cleanRefusal({ code, message }: Refusal): Refusal {
  // Cut between characters, not within one.
  const clean = (text: string, chars: number): string =>
    Array.from(
      redactCredentials(text.slice(0, 10 * chars))
        .replaceAll(SECRETS, '***')
        .replaceAll(/[\p{C}\s]+/gu, ' ')
        .trim(),
    )
      .slice(0, chars)
      .join('');
  return { code: clean(code, MAX_CODE_CHARS), message: clean(message, MAX_MESSAGE_CHARS) };
}

/** Thrown by any call that the provider must not get now: it did nothing, and is to be repeated later. */
export class ProviderBusyError extends Error {
  override name = 'ProviderBusyError';
  readonly retryAfterMs: number;

  constructor(message: string, retryAfterMs: number) {
    super(message);
    this.retryAfterMs = retryAfterMs;
  }
}

/** Thrown by `listPayments` after the last payment: some could not be read, and were not listed. */
export class UnreadablePaymentsError extends Error {
  override name = 'UnreadablePaymentsError';
  readonly count: number;

  constructor(count: number, cause: unknown) {
    super(`the provider lists ${count} payments that cannot be read`, { cause });
    this.count = count;
  }
}

/** Thrown by `verifyNotice` for a forged or stale notice: the answer is 401, and nothing is stored. */
export class InvalidSignatureError extends Error {
  override name = 'InvalidSignatureError';
}

/** Thrown by `verifyNotice` for an authentic notice of an unknown shape: the answer is 400. */
export class MalformedNoticeError extends Error {
  override name = 'MalformedNoticeError';
}

/** What a provider says about amounts, which takes no call. */
export type AmountRules = Pick<PaymentProvider, 'priceFault' | 'refundFault'>;

export interface PaymentProvider {
  /** A short name, recorded with every payment. */
  readonly name: string;
  /** Why the provider would refuse to take this price; undefined when it takes it, as far as is known. */
  priceFault(price: Price): string | undefined;
  /** Why the provider would not send this amount back; undefined when it would, as far as is known. */
  refundFault(price: Price): string | undefined;
  /**
   * Opens a session; the same `sessionId` returns the same session.
   * @throws SessionRefusedError; any other error leaves the outcome unknown: a repeat of the same request
   *   shows it
   */
  openSession(request: SessionRequest): Promise<ProviderSession>;
  /** Closes a session for good, idempotently. Throws when the provider is away. */
  voidSession(providerSessionId: string): Promise<VoidOutcome>;
  /**
   * Refunds the payer.
   * @throws RefundRefusedError; any other error leaves the outcome unknown: `listReversals` shows it, or a
   *   repeat with the same key
   */
  refund(request: RefundRequest): Promise<Reversal>;
  /**
   * Lists all refunds of a payment, including those made by provider staff, and all disputes about it. Throws
   * when the provider is away.
   */
  listReversals(providerPaymentId: string): Promise<Reversal[]>;
  /**
   * Lists the collected payments from the provider's own book, without a further call for each payment: one
   * that cannot be read must not hide the others. Throws when the provider is away.
   * @throws UnreadablePaymentsError at the end of the list
   * @param sinceMs Unix time in ms, a whole second: only payments begun at or after it; all without it
   * @param untilMs as `sinceMs`: only payments begun before it
   */
  listPayments(sinceMs?: number, untilMs?: number): AsyncIterable<ListedPayment>;
  /**
   * Verifies the signature over the raw bytes, then parses the notice.
   * @throws InvalidSignatureError | MalformedNoticeError
   */
  verifyNotice(rawBody: string, headers: Readonly<Record<string, string>>): PaymentNotice;
}
