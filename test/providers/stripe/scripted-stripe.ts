/**
 * A stand-in for Stripe: a real server that gives the answers that a test scripts, such as refusals,
 * faults and silence. What is not scripted is passed on to stripe-mock, where there is one.
 */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';

interface SeenRequest {
  /** As in `POST /v1/refunds`, without the query. */
  route: string;
  query: Record<string, string>;
  headers: IncomingMessage['headers'];
  /** As it came: Stripe's form encoding. */
  body: string;
  form: Record<string, string>;
}

/**
 * A reply; or the connection is closed without one; or
 * headers come and the body never; or nothing comes at all.
 */
type Answer =
  | { status: number; body: unknown; location?: string; retryAfter?: string }
  | 'hang-up'
  | 'half'
  | 'silence';

export interface ScriptedStripe {
  url: string;
  seen: SeenRequest[];
  /** Answers the next requests of this route, in order. */
  script(route: string, ...answers: Answer[]): void;
  close(): Promise<void>;
}

export async function openScriptedStripe(mockUrl?: string): Promise<ScriptedStripe> {
  const seen: SeenRequest[] = [];
  const scripted = new Map<string, Answer[]>();
  const server = createServer((request, response) => {
    void serve(request, response).catch((error: unknown) => response.destroy(toError(error)));
  });

  async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const body = await readAll(request);
    const url = new URL(request.url ?? '/', 'http://scripted.stripe');
    const route = `${request.method} ${url.pathname}`;
    seen.push({
      route,
      query: Object.fromEntries(url.searchParams),
      headers: request.headers,
      body,
      form: Object.fromEntries(new URLSearchParams(body)),
    });
    const answer = scripted.get(route)?.shift() ?? (await askMock(mockUrl, request, body));
    if (answer === 'silence') return;
    if (answer === 'hang-up') return void response.destroy();
    if (answer === 'half') return void response.writeHead(200, { 'content-length': 1_000 }).write('{');
    if (answer.location !== undefined) response.setHeader('location', answer.location);
    if (answer.retryAfter !== undefined) response.setHeader('retry-after', answer.retryAfter);
    response.writeHead(answer.status, { 'content-type': 'application/json', 'request-id': 'req_1' });
    response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
  }

  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return {
    url: `http://127.0.0.1:${address.port}`,
    seen,
    script: (route, ...answers) => void scripted.set(route, [...(scripted.get(route) ?? []), ...answers]),
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };
}

/**
 * stripe-mock is one version of the API behind and knows this
 * parameter by the name it had: the only one that differs.
 */
const RENAMED = { now: 'allowed_payment_method_types', before: 'payment_method_types' };

async function askMock(mockUrl: string | undefined, request: IncomingMessage, body: string): Promise<Answer> {
  if (mockUrl === undefined) return { status: 501, body: { error: { message: 'not scripted' } } };
  const reply = await fetch(new URL(request.url ?? '/', mockUrl), {
    method: request.method ?? 'GET',
    headers: {
      authorization: request.headers.authorization ?? '',
      'content-type': 'application/x-www-form-urlencoded',
    },
    ...(body === '' ? {} : { body: body.replaceAll(RENAMED.now, RENAMED.before) }),
  });
  return { status: reply.status, body: await reply.text() };
}

async function readAll(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks).toString();
}

function toError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
