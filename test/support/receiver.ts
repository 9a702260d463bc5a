/** An endpoint of a shop: a real HTTP server that records what it gets, and answers as a test wants. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import { Webhook } from 'standardwebhooks';
import { z } from 'zod';

const eventJson = z.looseObject({ id: z.string(), type: z.string(), data: z.looseObject({}) });

/** A request as it came in. */
export interface Received {
  id: string;
  headers: IncomingHttpHeaders;
  body: string;
  event: z.infer<typeof eventJson>;
}

/** Answers one request; a number is a status. */
export type Respond = (received: Received, response: ServerResponse) => number | void;

export type Receiver = Awaited<ReturnType<typeof openReceiver>>;

export async function openReceiver(respond: Respond = () => 204) {
  const received: Received[] = [];
  let answer = respond;
  let atOnce = 0;
  let mostAtOnce = 0;
  async function receive(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const one = await read(request);
    received.push(one);
    const status = answer(one, response);
    if (status !== undefined) response.writeHead(status).end();
  }
  const server = createServer((request, response) => {
    atOnce += 1;
    mostAtOnce = Math.max(mostAtOnce, atOnce);
    response.once('close', () => {
      atOnce -= 1;
    });
    void receive(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  assert(typeof address === 'object' && address, 'it listens on a port');
  return {
    url: `http://127.0.0.1:${address.port}/hook`,
    received,
    ids: () => received.map(({ id }) => id),
    mostAtOnce: () => mostAtOnce,
    answerWith(next: Respond): void {
      answer = next;
    },
    /** Breaks all connections. */
    hangUp: (): void => server.closeAllConnections(),
    async close(): Promise<void> {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/** @throws when the signature is not by this secret */
export function verify({ body, headers }: Received, secret: string): unknown {
  const named = ['webhook-id', 'webhook-timestamp', 'webhook-signature'] as const;
  const given = Object.fromEntries(named.map((name) => [name, String(headers[name])]));
  return new Webhook(secret).verify(body, given);
}

async function read(request: IncomingMessage): Promise<Received> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(z.instanceof(Buffer).parse(chunk));
  const body = Buffer.concat(chunks).toString();
  const { headers } = request;
  return { id: String(headers['webhook-id']), headers, body, event: eventJson.parse(JSON.parse(body)) };
}
