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

/** An authentic event that moves no money. */
export const harmlessNotice = (): string =>
  JSON.stringify({ type: 'customer.created', timestamp: new Date().toISOString() });
