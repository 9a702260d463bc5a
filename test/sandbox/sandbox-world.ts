/** Both ends of a payment as real servers: the sandbox provider, and the shop's receiver of its callbacks. */

import { once } from 'node:events';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import {
  mischiefReplySchema,
  type MischiefReply,
  type MischiefSettings,
} from '../../sandbox/book/mischief.ts';
import { createSandboxProvider, type RunningSandbox, type SandboxOptions } from '../../sandbox/server.ts';
import type { CollectedPayment } from '../../src/money/payment.ts';
import { readCollected } from '../../src/providers/collected.ts';
import type { PaymentProvider, SessionRequest } from '../../src/providers/provider.ts';
import { sessionReplySchema } from '../../src/providers/remote-wire.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';

export const API_KEY = 'sandbox-test-api-key';
export const SECRET = 'whsec_aG9sZGZhc3Qtc2FuZGJveC1zZWNyZXQtMDE=';
export const OTHER_SECRET = 'whsec_YW5vdGhlci1zYW5kYm94LXNlY3JldC0wMDI=';
export const SIGNED_ORDER = 'eyJhbGciOiJIUzI1NiJ9.eyJvcmRlciI6MX0.c2VhbA';
export const ORDER_NO = 'summer-0-1-01JD0000000000000000000000';

interface ReceivedNotice {
  body: string;
  headers: Record<string, string>;
}

interface Receiver {
  url: string;
  /** Statuses answered to the next notices, in order; 204 once they are used up. */
  answers: number[];
  /** The next notice that was not returned yet, in order of arrival. */
  next: () => Promise<ReceivedNotice>;
  /** How many arrived and wait for `next`. */
  waiting: () => number;
}

export interface World {
  receiver: Receiver;
  /** In a folder that goes away with the world. */
  bookFile: string;
  startSandbox: (overrides?: Partial<SandboxOptions>) => Promise<RunningSandbox>;
}

/** Owns every server and file that the callback makes, and releases them whatever happens. */
export async function withWorld(use: (world: World) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-sandbox-'));
  const { receiver, close } = await startReceiver();
  const running: RunningSandbox[] = [];
  try {
    await use({
      receiver,
      bookFile: join(folder, 'book.jsonl'),
      startSandbox: async (overrides = {}) => {
        const sandbox = await createSandboxProvider({
          host: '127.0.0.1',
          apiKey: API_KEY,
          webhookUrl: receiver.url,
          webhookSecret: SECRET,
          retryDelaysMs: [1, 2, 4],
          logger: pino({ level: 'silent' }),
          ...overrides,
        }).start(0);
        let stopping: Promise<void> | undefined;
        const stoppedOnce = { url: sandbox.url, stop: () => (stopping ??= sandbox.stop()) };
        running.push(stoppedOnce);
        return stoppedOnce;
      },
    });
  } finally {
    await Promise.all(running.map((sandbox) => sandbox.stop()));
    await close();
    await rm(folder, { recursive: true });
  }
}

export function connect(
  sandbox: { url: string },
  webhookSecrets: readonly string[] = [SECRET],
): PaymentProvider {
  return createRemoteAdapter({
    name: 'sandbox',
    baseUrl: sandbox.url,
    apiKey: API_KEY,
    webhookSecrets,
    deployment: 'holdfast',
    requestTimeoutMs: 60_000,
  });
}

export function buildSessionRequest(overrides: Partial<SessionRequest> = {}): SessionRequest {
  return {
    sessionId: 'session-1',
    orderNo: ORDER_NO,
    amount: 12_345,
    currency: 'SGD',
    expiresAtMs: Date.now() + 30 * 60 * 1000,
    createdAtMs: Date.now(),
    signedOrder: SIGNED_ORDER,
    reference: null,
    metadata: {},
    ...overrides,
  };
}

/** One API call with the key, as a shop or a test makes it. */
export async function call(
  sandbox: { url: string },
  method: 'GET' | 'POST' | 'PUT',
  path: string,
  options: { body?: unknown; headers?: Record<string, string> } = {},
): Promise<{ status: number; type: string; body: unknown }> {
  const response = await fetch(`${sandbox.url}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${API_KEY}`,
      ...(options.body === undefined ? {} : { 'content-type': 'application/json' }),
      ...options.headers,
    },
    ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
  });
  return {
    status: response.status,
    type: response.headers.get('content-type') ?? '',
    body: await response.json(),
  };
}

export function pay(sandbox: { url: string }, providerSessionId: string) {
  return call(sandbox, 'POST', `/v1/payment_sessions/${providerSessionId}/pay`);
}

/**
 * Opens a session and pays it; answers the provider's id of the payment, whose callback is the next to come.
 */
export async function takePayment(
  sandbox: { url: string },
  overrides: Partial<SessionRequest> = {},
): Promise<string> {
  const { providerSessionId } = await connect(sandbox).openSession(buildSessionRequest(overrides));
  const paid = sessionReplySchema.parse((await pay(sandbox, providerSessionId)).body);
  if (paid.payment_id === null) throw new Error(`nothing was taken: ${paid.status}`);
  return paid.payment_id;
}

/** The provider's own book, as an audit reads it. */
export async function listCollected(sandbox: { url: string }): Promise<CollectedPayment[]> {
  const taken: CollectedPayment[] = [];
  for await (const payment of readCollected(connect(sandbox))) taken.push(payment);
  return taken;
}

/** All switches at once: those that are left out are off. */
export async function setMischief(
  sandbox: { url: string },
  settings: Partial<MischiefSettings>,
): Promise<void> {
  const reply = await call(sandbox, 'PUT', '/v1/test/mischief', { body: settings });
  if (reply.status !== 200) throw new Error(`no mischief: ${JSON.stringify(reply.body)}`);
}

/** How often each switch struck. */
export async function countStruck(sandbox: { url: string }): Promise<MischiefReply['struck']> {
  return mischiefReplySchema.parse((await call(sandbox, 'GET', '/v1/test/mischief')).body).struck;
}

/** Changes what a stopped sandbox will read: the time of what it promised, for instance. */
export async function rewriteBook(
  bookFile: string,
  replacements: Readonly<Record<string, number>>,
): Promise<void> {
  const text = await readFile(bookFile, 'utf8');
  const changed = Object.entries(replacements).reduce(
    (lines, [field, value]) => lines.replaceAll(new RegExp(`"${field}":\\d+`, 'g'), `"${field}":${value}`),
    text,
  );
  if (changed === text) throw new Error(`${bookFile} has nothing to change`);
  await writeFile(bookFile, changed);
}

async function startReceiver(): Promise<{ receiver: Receiver; close: () => Promise<void> }> {
  const answers: number[] = [];
  const arrived: ReceivedNotice[] = [];
  const takers: ((notice: ReceivedNotice) => void)[] = [];
  const receive = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const notice = await readNotice(request);
    const taker = takers.shift();
    if (taker) taker(notice);
    else arrived.push(notice);
    response.writeHead(answers.shift() ?? 204).end();
  };
  const server = createServer((request, response) => void receive(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the receiver has no port');
  return {
    receiver: {
      url: `http://127.0.0.1:${address.port}/v1/webhooks/payments`,
      answers,
      next: () => {
        const notice = arrived.shift();
        return notice ? Promise.resolve(notice) : new Promise((resolve) => void takers.push(resolve));
      },
      waiting: () => arrived.length,
    },
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function readNotice(request: IncomingMessage): Promise<ReceivedNotice> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk);
  const headers = Object.entries(request.headers).flatMap(([name, value]): [string, string][] =>
    typeof value === 'string' ? [[name, value]] : [],
  );
  return { body: Buffer.concat(chunks).toString('utf8'), headers: Object.fromEntries(headers) };
}
