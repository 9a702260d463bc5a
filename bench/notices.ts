/** The provider's callbacks of payments, signed as the sandbox signs them, sent straight to the API. */

import { Agent, request } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { ulid } from 'ulidx';
import type { MoneyNotice } from '../src/providers/remote-wire.ts';
import { demoSecrets } from '../stack/app.ts';

export interface PaymentNotifier {
  /** Reports that an order of one `unit` at 10.00 was paid. @throws unless the API answers with 2xx */
  sendPaid(orderNo: string): Promise<void>;
  /** As `sendPaid`. @returns the status of the answer */
  trySendPaid(orderNo: string): Promise<number>;
  close(): void;
}

export function createPaymentNotifier(apiUrl: string, concurrency: number): PaymentNotifier {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const webhook = new Webhook(demoSecrets.webhook);
  const url = new URL('/v1/webhooks/payments', apiUrl);

  function post(headers: Record<string, string | number>, body: string): Promise<number> {
    return new Promise((resolve, reject) => {
      const sent = request(url, { agent, method: 'POST', headers }, (response) => {
        response
          .resume()
          .on('error', reject)
          .on('end', () => resolve(response.statusCode ?? 0));
      });
      sent.on('error', reject).end(body);
    });
  }

  async function trySendPaid(orderNo: string): Promise<number> {
    const sentAt = new Date();
    const body = JSON.stringify({
      type: 'payment.succeeded',
      timestamp: sentAt.toISOString(),
      data: {
        payment_id: `pay_${ulid()}`,
        session_id: null,
        reference: orderNo,
        amount: 1_000,
        currency: 'EUR',
        signed_order: null,
        deployment: null,
        fee: null,
      },
    } satisfies MoneyNotice);
    const id = `evt_${ulid()}`;
    return post(
      {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        'webhook-id': id,
        'webhook-timestamp': Math.floor(sentAt.getTime() / 1_000),
        'webhook-signature': webhook.sign(id, sentAt, body),
      },
      body,
    );
  }

  return {
    trySendPaid,
    async sendPaid(orderNo) {
      const status = await trySendPaid(orderNo);
      if (status >= 300) throw new Error(`${orderNo}: the webhook answered ${status}`);
    },
    close: () => agent.destroy(),
  };
}
