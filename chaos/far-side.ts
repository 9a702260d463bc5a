/** The provider as its own people see it: its bad days, what happens there without Holdfast, and its book. */

import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { mischiefReplySchema, type MischiefReply, type MischiefSettings } from '../sandbox/book/mischief.ts';
import {
  paymentsReplySchema,
  reversalReplySchema,
  sessionReplySchema,
  type PaymentReply,
} from '../src/payments/sandbox/wire.ts';
import { demoSecrets } from '../stack/app.ts';

const CALL_TIMEOUT_MS = 5_000;
const PAUSE_MS = 500;
/** Longer than any fault of the provider, with its restart. */
const PATIENCE_MS = 120_000;
const PAGE_SIZE = 500;
/** What a part of a refund is; less than anything costs. Minor units. */
const PART = 100;

/** What the provider's people, or a payer's bank, do to a payment. */
export const REVERSALS = ['refund', 'part refund', 'dispute', 'dispute won', 'dispute lost'] as const;
export type ReversalByHand = (typeof REVERSALS)[number];

export type FarSide = ReturnType<typeof createFarSide>;

/** @param providerUrl the provider itself: no wire is in between */
export function createFarSide(providerUrl: string) {
  /**
   * Repeated until it is answered; a repeat may do it twice.
   * @returns undefined when the provider decided against it
   */
  async function ask<T>(
    schema: z.ZodType<T>,
    method: string,
    path: string,
    body?: object,
  ): Promise<T | undefined> {
    const untilMs = Date.now() + PATIENCE_MS;
    for (;;) {
      const reply = await send(method, path, body).catch(() => undefined);
      if (reply?.ok) return schema.parse(reply.json);
      if (reply && reply.status < 500) return undefined;
      if (Date.now() >= untilMs) throw new Error(`the provider does not answer ${method} ${path}`);
      await delay(PAUSE_MS);
    }
  }

  async function send(method: string, path: string, body: object | undefined) {
    const response = await fetch(new URL(path, providerUrl), {
      method,
      headers: {
        authorization: `Bearer ${demoSecrets.providerApiKey}`,
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    const { ok, status } = response;
    return { ok, status, json: JSON.parse(await response.text()) as unknown };
  }

  async function mischief(
    method: 'GET' | 'PUT',
    settings?: Partial<MischiefSettings>,
  ): Promise<MischiefReply> {
    const reply = await ask(mischiefReplySchema, method, '/v1/test/mischief', settings);
    if (!reply) throw new Error('the provider does not take these switches');
    return reply;
  }

  /** Of one order where `reference` is given. */
  async function listPayments(reference?: string): Promise<PaymentReply[]> {
    const payments: PaymentReply[] = [];
    const filter = reference === undefined ? '' : `&reference=${reference}`;
    for (let cursor: string | null = '0'; cursor !== null;) {
      const path: string = `/v1/payments?limit=${PAGE_SIZE}&cursor=${cursor}${filter}`;
      const page = await ask(paymentsReplySchema, 'GET', path);
      payments.push(...(page?.data ?? []));
      cursor = page?.next_cursor ?? null;
    }
    return payments;
  }

  async function dispute(paymentId: string, won: boolean | undefined): Promise<boolean> {
    const opened = await ask(reversalReplySchema, 'POST', `/v1/test/payments/${paymentId}/dispute`, {});
    if (!opened) return false;
    if (won !== undefined)
      await ask(reversalReplySchema, 'POST', `/v1/test/disputes/${opened.id}/close`, { won });
    return true;
  }

  async function refund(paymentId: string, terms: { amount?: number }): Promise<boolean> {
    return (
      (await ask(reversalReplySchema, 'POST', `/v1/test/payments/${paymentId}/refund`, terms)) !== undefined
    );
  }

  function reverse({ id }: PaymentReply, how: ReversalByHand): Promise<boolean> {
    switch (how) {
      case 'refund':
        return refund(id, {});
      case 'part refund':
        return refund(id, { amount: PART });
      case 'dispute':
        return dispute(id, undefined);
      case 'dispute won':
        return dispute(id, true);
      case 'dispute lost':
        return dispute(id, false);
      default:
        return how satisfies never;
    }
  }

  return {
    listPayments,

    setMischief: (settings: Partial<MischiefSettings>): Promise<MischiefReply> => mischief('PUT', settings),
    readMischief: (): Promise<MischiefReply> => mischief('GET'),

    /** Money that comes in no session of ours. Minor units. */
    async payOutside(orderNo: string, amount: number, signedOrder: string | null = null): Promise<void> {
      const body = { reference: orderNo, amount, currency: 'EUR', signed_order: signedOrder };
      await ask(z.unknown(), 'POST', '/v1/test/payments', body);
    },

    /** The callbacks of what was paid for the order are sent at once, whatever has become of them. */
    async tellAgain(orderNo: string): Promise<PaymentReply[]> {
      const payments = await listPayments(orderNo);
      for (const payment of payments) {
        await ask(z.unknown(), 'POST', `/v1/test/events/${payment.event_id}/redeliver`);
      }
      return payments;
    },

    /** Only where the order has one payment: then it is the one that counts. Answers whether it was done. */
    async reverse(orderNo: string, how: ReversalByHand): Promise<boolean> {
      const [payment, another] = await listPayments(orderNo);
      return payment !== undefined && another === undefined && reverse(payment, how);
    },

    /** The shopper has paid in it, and the money is yet to come. */
    async isPromised(providerSessionId: string): Promise<boolean> {
      const session = await ask(sessionReplySchema, 'GET', `/v1/payment_sessions/${providerSessionId}`);
      return session?.status === 'processing';
    },
  };
}
