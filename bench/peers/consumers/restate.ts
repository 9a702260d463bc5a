/**
 * Restate: a durable handler, invoked once for each order that the ingress accepted, stores the order in
 * MySQL inside a journaled step.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http2';
import { endpoint, service, type Context } from '@restatedev/restate-sdk';
import type { PeerOrder } from '../peer.ts';
import { openStore, runConsumer } from './consumer.ts';
import { storeOrder } from './store-order.ts';

const CONNECTIONS = 50;

// The SDK calls this function of Node 22 and newer, and runs on Node 20 otherwise.
if (!('withResolvers' in Promise)) Object.assign(Promise, { withResolvers });

await runConsumer(async ({ storeUrl, queueUrl, queue }) => {
  const pool = openStore(storeUrl, CONNECTIONS);
  const orders = service({
    name: queue,
    handlers: {
      store: (context: Context, order: PeerOrder) => context.run('storeOrder', () => storeOrder(pool, order)),
    },
  });
  const server = createServer(endpoint().setLogger(silence).bind(orders).http2Handler());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert(typeof address === 'object' && address);
  const response = await fetch(`${queueUrl}/deployments`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ uri: `http://127.0.0.1:${address.port}` }),
  });
  if (!response.ok) throw new Error(`Restate does not take the service: ${await response.text()}`);
});

/** Two lines an order would slow it. */
function silence(): void {}

function withResolvers() {
  let resolve: (value: unknown) => void = () => {};
  let reject: (reason: unknown) => void = () => {};
  const promise = new Promise((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
