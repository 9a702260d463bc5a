/**
 * The sandbox provider's console: what its staff, a payer's bank or a test do there, over its
 * HTTP test routes. Every reply is checked against the schema that the sandbox itself uses.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import {
  reversalReplySchema,
  sessionReplySchema,
  type ReversalReply,
  type SessionReply,
} from '../src/providers/remote-wire.ts';
import { codeOf, send, type Reply } from '../src/providers/remote.ts';
import { mischiefReplySchema, type MischiefReply, type MischiefSettings } from './book/mischief.ts';
import {
  bookedPaymentSchema,
  bookReplySchema,
  type BookedPayment,
  type disputeCloseRequestSchema,
  type reversalRequestSchema,
  type strayPaymentRequestSchema,
} from './test-wire.ts';

const REQUEST_TIMEOUT_MS = 5_000;
/** Between two tries of one call. */
const PAUSE_MS = 500;
/**
 * Payments in a page: with signed orders of the greatest
 * length a page stays below the client's bound of 2 MiB.
 */
const PAGE_SIZE = 100;

export interface ConsoleOptions {
  /** Where the sandbox listens. */
  url: string;
  apiKey: string;
  /**
   * For so long a call is repeated that met no answer, a fault of the sandbox
   * (5xx) or its bound on calls (429). The sandbox may then do it twice. Without it each call is made once.
   */
  patienceMs?: number;
}

/** The sandbox decided against a call (4xx) and did nothing. */
export class ConsoleRefusedError extends Error {
  override name = 'ConsoleRefusedError';
  /** The stable code of the refusal, as in `refund_exceeds_payment`. */
  readonly code: string | undefined;

  constructor(message: string, code: string | undefined) {
    super(message);
    this.code = code;
  }
}

/** Money outside any session: amounts in minor units, euros unless another currency is named. */
interface StrayPayment {
  reference: string;
  amount: number;
  currency?: string;
  signedOrder?: string;
  deployment?: string;
}

const redeliveredSchema = z.object({ id: z.string(), type: z.string(), delivery: z.string() });

export type SandboxConsole = ReturnType<typeof openConsole>;

/** @throws ConsoleRefusedError from every call that the sandbox decides against */
export function openConsole({ url, apiKey, patienceMs = 0 }: ConsoleOptions) {
  const client = { baseUrl: url, apiKey, requestTimeoutMs: REQUEST_TIMEOUT_MS };

  async function call<T>(
    schema: z.ZodType<T>,
    method: 'GET' | 'POST' | 'PUT',
    path: string,
    body?: object,
  ): Promise<T> {
    const name = `${method} ${path}`;
    const untilMs = Date.now() + patienceMs;
    for (;;) {
      const reply = await send(client, method, path, body === undefined ? {} : { body }).catch(
        (cause: unknown) => new Error(`the sandbox does not answer ${name}`, { cause }),
      );
      if (!(reply instanceof Error) && reply.ok) return schema.parse(reply.body);
      const fault = reply instanceof Error ? reply : toFault(name, reply);
      if (fault instanceof ConsoleRefusedError || Date.now() >= untilMs) throw fault;
      await delay(PAUSE_MS);
    }
  }

  const setMischief = (settings: Partial<MischiefSettings>): Promise<MischiefReply> =>
    call(mischiefReplySchema, 'PUT', 'v1/test/mischief', settings);

  /** The callback of an event is sent at once, also when it was dropped or was delivered before. */
  const redeliver = (eventId: string) =>
    call(redeliveredSchema, 'POST', `v1/test/events/${segment(eventId)}/redeliver`);

  /** All payments, or those of one order; oldest first. */
  async function listPayments(reference?: string): Promise<BookedPayment[]> {
    const payments: BookedPayment[] = [];
    const filter = reference === undefined ? '' : `&reference=${segment(reference)}`;
    for (let cursor: string | null = '0'; cursor !== null;) {
      const path: string = `v1/payments?limit=${PAGE_SIZE}&cursor=${cursor}${filter}`;
      const page = await call(bookReplySchema, 'GET', path);
      payments.push(...page.data);
      cursor = page.next_cursor;
    }
    return payments;
  }

  return {
    listPayments,
    redeliver,

    /** Every callback of the order's payments. @returns those payments */
    async redeliverPayments(reference: string): Promise<BookedPayment[]> {
      const payments = await listPayments(reference);
      for (const payment of payments) await redeliver(payment.event_id);
      return payments;
    },

    /** The settings as a whole: a switch that is left out is off. */
    setMischief,

    readMischief: (): Promise<MischiefReply> => call(mischiefReplySchema, 'GET', 'v1/test/mischief'),

    /** The settings hold while `work` runs, and all switches are off afterwards. */
    async withMischief(settings: Partial<MischiefSettings>, work: () => Promise<void>): Promise<void> {
      await setMischief(settings);
      try {
        await work();
      } finally {
        await setMischief({});
      }
    },

    takeStrayPayment: ({
      reference,
      amount,
      currency = 'EUR',
      signedOrder,
      deployment,
    }: StrayPayment): Promise<BookedPayment> =>
      call(bookedPaymentSchema, 'POST', 'v1/test/payments', {
        reference,
        amount,
        currency,
        signed_order: signedOrder ?? null,
        deployment: deployment ?? null,
      } satisfies z.input<typeof strayPaymentRequestSchema>),

    /** The money of a payment that is late is taken now. */
    takeLatePayment: (providerSessionId: string): Promise<BookedPayment> =>
      call(bookedPaymentSchema, 'POST', `v1/test/payment_sessions/${segment(providerSessionId)}/take`),

    /** A refund by provider staff, made at once. Without an amount (minor units): all that is left. */
    refund: (paymentId: string, amount?: number): Promise<ReversalReply> =>
      call(reversalReplySchema, 'POST', `v1/test/payments/${segment(paymentId)}/refund`, amountOf(amount)),

    /** The payer's bank sends a refund back, also one that had succeeded. */
    failRefund: (refundId: string): Promise<ReversalReply> =>
      call(reversalReplySchema, 'POST', `v1/test/refunds/${segment(refundId)}/fail`),

    /** Without an amount (minor units): all that is left of the payment. */
    openDispute: (paymentId: string, amount?: number): Promise<ReversalReply> =>
      call(reversalReplySchema, 'POST', `v1/test/payments/${segment(paymentId)}/dispute`, amountOf(amount)),

    /** A dispute that was closed is open again, under its own id. */
    reopenDispute: (disputeId: string) =>
      call(reversalReplySchema, 'POST', `v1/test/disputes/${segment(disputeId)}/reopen`),

    /** `won` by the shop; otherwise the payer has the money back. Also decides a closed one otherwise. */
    closeDispute: (disputeId: string, { won }: z.input<typeof disputeCloseRequestSchema>) =>
      call(reversalReplySchema, 'POST', `v1/test/disputes/${segment(disputeId)}/close`, { won }),

    readSession: (providerSessionId: string): Promise<SessionReply> =>
      call(sessionReplySchema, 'GET', `v1/payment_sessions/${segment(providerSessionId)}`),
  };
}

const segment = encodeURIComponent;

const amountOf = (amount: number | undefined): z.input<typeof reversalRequestSchema> =>
  amount === undefined ? {} : { amount };

function toFault(name: string, reply: Reply): Error {
  const code = codeOf(reply);
  const message = `the sandbox answered ${reply.status} (${code ?? 'no code'}) to ${name}`;
  const isFault = reply.status >= 500 || reply.status === 429;
  return isFault ? new Error(message) : new ConsoleRefusedError(message, code);
}
