/** What is sent: an event as the feed shows it, signed by Standard Webhooks. */

import { randomBytes } from 'node:crypto';
import { Webhook } from 'standardwebhooks';

/** As Standard Webhooks asks for: 24 to 64 bytes. */
const SECRET_BYTES = 32;

export function createSecret(): string {
  return `whsec_${randomBytes(SECRET_BYTES).toString('base64')}`;
}

/**
 * The headers of one attempt. While secrets rotate there is a signature by each, and a receiver needs one.
 * @param id stable over retries and replays
 */
export function signMessage(
  id: string,
  body: string,
  secrets: readonly string[],
  sentAt: Date,
): Record<string, string> {
  return {
    'content-type': 'application/json',
    'user-agent': 'Holdfast-Push/1',
    'webhook-id': id,
    'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1_000)),
    'webhook-signature': secrets.map((secret) => new Webhook(secret).sign(id, sentAt, body)).join(' '),
  };
}
