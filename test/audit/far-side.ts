/** What people do at the provider: refunds by hand, chargebacks, money out of the blue, and bad days. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import type { MischiefSettings } from '../../sandbox/book/mischief.ts';
import { PROVIDER_API_KEY } from '../support/http-app.ts';
import { send } from '../support/shopper.ts';

const made = z.looseObject({ id: z.string() });

export type FarSide = ReturnType<typeof createFarSide>;

export function createFarSide(providerUrl: string) {
  async function call(method: string, path: string, body: object): Promise<unknown> {
    const headers = { authorization: `Bearer ${PROVIDER_API_KEY}` };
    const reply = await send(new URL(`/v1/test/${path}`, providerUrl).href, method, { headers, body });
    assert(reply.status < 300, `${path}: ${reply.status} ${JSON.stringify(reply.body)}`);
    return reply.body;
  }

  return {
    /** Without an amount, all that is left. */
    refund: (providerPaymentId: string, amount?: number) =>
      call('POST', `payments/${providerPaymentId}/refund`, amount === undefined ? {} : { amount }),

    /** @returns the dispute's id */
    dispute: async (providerPaymentId: string): Promise<string> =>
      made.parse(await call('POST', `payments/${providerPaymentId}/dispute`, {})).id,

    closeDispute: (disputeId: string, { won }: { won: boolean }) =>
      call('POST', `disputes/${disputeId}/close`, { won }),

    /** Outside any session. */
    pay: (reference: string, amount: number, currency = 'EUR') =>
      call('POST', 'payments', { reference, amount, currency }),

    /** While `work` is under way. */
    async withMischief(settings: Partial<MischiefSettings>, work: () => Promise<void>): Promise<void> {
      await call('PUT', 'mischief', settings);
      try {
        await work();
      } finally {
        await call('PUT', 'mischief', {});
      }
    },
  };
}
