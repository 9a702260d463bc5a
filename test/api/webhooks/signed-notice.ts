/** Calls the webhook as the provider does: signed over the raw bytes. */

import { Webhook } from 'standardwebhooks';
import { ulid } from 'ulidx';
import { WEBHOOK_SECRET } from '../../support/http-app.ts';
import { send, type Reply } from '../../support/shopper.ts';

export interface Signing {
  secret?: string;
  sentAt?: Date;
  /** What is sent instead of what was signed. */
  tampered?: string;
}

export function sendNotice(
  url: string,
  body: string,
  { secret = WEBHOOK_SECRET, sentAt = new Date(), tampered }: Signing = {},
): Promise<Reply> {
  const id = `evt_${ulid()}`;
  const headers = {
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
    'webhook-signature': new Webhook(secret).sign(id, sentAt, body),
  };
  return send(`${url}/v1/webhooks/payments`, 'POST', { headers, body: tampered ?? body });
}

/** A payment of a lamp of 49.00 for the order, under an id of its own unless one is given. */
export function paidNotice(orderNo: string, data: { amount?: number; payment_id?: string } = {}): string {
  const money = { session_id: null, reference: orderNo, amount: 4_900, currency: 'EUR' };
  return JSON.stringify({
    type: 'payment.succeeded',
    timestamp: new Date().toISOString(),
    data: { payment_id: `pay_${ulid()}`, ...money, ...data },
  });
}

/** An authentic event that moves no money. */
export const harmlessNotice = (): string =>
  JSON.stringify({ type: 'customer.created', timestamp: new Date().toISOString() });
