/** Takes what Holdfast pushes: the events of the feed, a moment sooner, signed by Standard Webhooks. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';
import { openHoldfast } from '../holdfast.js';
import { backOfficeUrl, catalogue, dataDir } from '../settings.js';
import { EVENT_TYPES, handle } from './fulfil.js';

const BODY_BYTES_MAX = 256 * 1024;
const ENDPOINT = 'back-office';
const secretFile = join(dataDir, 'endpoint-secret');
const holdfast = openHoldfast('back-office', 'endpoints:write');

export async function receivePushes() {
  const webhook = new Webhook(await register());
  const server = createServer((request, response) => {
    receive(request, webhook).then(
      (status) => response.writeHead(status).end(),
      // No 2xx: Holdfast sends it again.
      (error) => {
        console.error(error);
        response.writeHead(500).end();
      },
    );
  });
  const { hostname, port } = new URL(backOfficeUrl);
  server.listen(Number(port), hostname, () => console.log(`Events may be pushed to ${backOfficeUrl}`));
}

/**
 * @param {import('node:http').IncomingMessage} request
 * @param {Webhook} webhook
 * @returns {Promise<number>} the status of the answer
 */
async function receive(request, webhook) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES_MAX) return 413;
    chunks.push(chunk);
  }
  try {
    // Over the bytes as they came: JSON that was read and written again is other bytes.
    handle(webhook.verify(Buffer.concat(chunks).toString(), signatureOf(request)), 'push');
    return 204;
  } catch (error) {
    if (error instanceof WebhookVerificationError) return 401;
    throw error;
  }
}

/** @param {import('node:http').IncomingMessage} request */
function signatureOf({ headers }) {
  const names = ['webhook-id', 'webhook-timestamp', 'webhook-signature'];
  return Object.fromEntries(names.map((name) => [name, String(headers[name])]));
}

/** @returns {Promise<string>} the secret, which Holdfast shows once: when it is made */
async function register() {
  const body = {
    url: `${backOfficeUrl}/holdfast`,
    types: EVENT_TYPES,
    saleId: catalogue.sale.saleId,
    description: 'fulfilment',
  };
  const endpoint = await holdfast.putEndpoint(ENDPOINT, body);
  if (endpoint.status === 200 && existsSync(secretFile)) return readFileSync(secretFile, 'utf8');
  // It existed, and the process died before it had written the secret down: another one.
  const { secret } =
    endpoint.status === 200 ? (await holdfast.rotateEndpointSecret(ENDPOINT)).data : endpoint.data;
  writeFileSync(secretFile, secret, { mode: 0o600 });
  return secret;
}
