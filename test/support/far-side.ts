/** What a test does at the sandbox provider: money from nowhere, reversals made there, bad days, a look into its book. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import type { MischiefSettings } from '../../sandbox/book/mischief.ts';
import type { CollectedPayment } from '../../src/domain/payment.ts';
import { readCollected } from '../../src/payments/collected.ts';
import { PROVIDER_API_KEY, type HttpApp } from './http-app.ts';
import { send } from './shopper.ts';

const made = z.object({ id: z.string() });

export interface StrayMoney {
  orderNo: string;
  amount: number;
  currency?: string;
  signedOrder?: string;
}

export function farSideOf({ provider, providerUrl }: Pick<HttpApp, 'provider' | 'providerUrl'>) {
  async function call(method: string, path: string, body: object): Promise<string> {
    const headers = { authorization: `Bearer ${PROVIDER_API_KEY}` };
    const reply = await send(`${providerUrl}/v1/test/${path}`, method, { headers, body });
    assert(reply.status < 300, JSON.stringify(reply.body));
    return made.safeParse(reply.body).data?.id ?? '';
  }

  return {
    /** Outside any session. @returns the provider's id of the payment */
    takeStray: ({ orderNo, amount, currency = 'EUR', signedOrder }: StrayMoney): Promise<string> =>
      call('POST', 'payments', {
        reference: orderNo,
        amount,
        currency,
        ...(signedOrder === undefined ? {} : { signed_order: signedOrder }),
      }),

    /** As a whole: what is left out is off. */
    setMischief: (settings: Partial<MischiefSettings>): Promise<string> => call('PUT', 'mischief', settings),

    /** By hand, in the provider's own console. @returns the refund's id */
    refund: (providerPaymentId: string, amount?: number): Promise<string> =>
      call('POST', `payments/${providerPaymentId}/refund`, amount === undefined ? {} : { amount }),

    /** @returns the dispute's id */
    dispute: (providerPaymentId: string): Promise<string> =>
      call('POST', `payments/${providerPaymentId}/dispute`, {}),

    closeDispute: (disputeId: string, won: boolean): Promise<string> =>
      call('POST', `disputes/${disputeId}/close`, { won }),

    /** What it took for an order, oldest first. */
    async taken(orderNo: string): Promise<CollectedPayment[]> {
      const payments: CollectedPayment[] = [];
      for await (const payment of readCollected(provider))
        if (payment.orderNo === orderNo) payments.push(payment);
      return payments;
    },
  };
}
