/** The adapter of a provider of the shop's own, with answers that keep no contract. */

import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';
import { API_KEY, buildSessionRequest, SECRET } from '../sandbox/sandbox-world.ts';

type Answer = (response: ServerResponse) => void;

const server = createServer((request: IncomingMessage, response: ServerResponse) => {
  seen.push({ path: request.url ?? '', authorization: request.headers.authorization });
  (answers.shift() ?? ((missing) => missing.writeHead(501).end()))(response);
});
let seen: { path: string; authorization: string | undefined }[] = [];
let answers: Answer[] = [];
let url = '';

beforeEach(async () => {
  [seen, answers] = [[], []];
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  url = `http://127.0.0.1:${address.port}`;
});
afterEach(async () => {
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
});

/** @param requestTimeoutMs short only where no answer comes at all */
function connect(requestTimeoutMs = 5_000): PaymentProvider {
  return createRemoteAdapter({
    name: 'remote',
    baseUrl: url,
    apiKey: API_KEY,
    webhookSecrets: [SECRET],
    deployment: 'ours',
    requestTimeoutMs,
  });
}

const answer =
  (status: number, body: unknown, headers: Record<string, string> = {}): Answer =>
  (response) =>
    void response.writeHead(status, headers).end(typeof body === 'string' ? body : JSON.stringify(body));

const GATEWAY_PAGE = '<html><title>Slow down</title></html>';

function buildPayment(change: Record<string, unknown> = {}) {
  return {
    id: 'pay_1',
    reference: 'summer-0-1-01JD0000000000000000000000',
    amount: 4_900,
    currency: 'EUR',
    session_id: null,
    returned: 0,
    disputed: false,
    created_at: '2026-11-22T12:00:00Z',
    ...change,
  };
}

/** The ids that are listed, and how the list ends. */
async function list(): Promise<{ ids: string[]; end: unknown }> {
  const ids: string[] = [];
  try {
    for await (const { providerPaymentId } of connect().listPayments()) ids.push(providerPaymentId);
  } catch (error) {
    return { ids, end: error };
  }
  return { ids, end: undefined };
}

test('a gateway that answers 429 in words of its own makes all calls pause for as long as it says', async () => {
  answers = [answer(429, GATEWAY_PAGE, { 'retry-after': '7' }), answer(429, '')];
  const provider = connect();

  await expect(provider.openSession(buildSessionRequest())).rejects.toMatchObject({
    name: 'ProviderBusyError',
    retryAfterMs: 7_000,
  });
  await expect(provider.listReversals('pay_1')).rejects.toMatchObject({ name: 'ProviderBusyError' });
});

test.each([
  ['a page of a gateway', 502, GATEWAY_PAGE],
  ['no body', 503, ''],
  ['a code of no contract', 409, { code: 'try_later' }],
])('a refund that gets %s has an unknown outcome, and is not taken as refused', async (_, status, body) => {
  answers = [answer(status, body)];
  const request = { refundKey: 'refund-1-0', providerPaymentId: 'pay_1', amount: 1, currency: 'EUR' };

  await expect(connect().refund(request)).rejects.toMatchObject({
    name: 'Error',
    message: expect.stringContaining(String(status)),
  });
});

test('an answer in other words than JSON is no success', async () => {
  answers = [answer(200, GATEWAY_PAGE)];

  await expect(connect().voidSession('ses_1')).rejects.toThrow('not in JSON');
});

test.each([
  ['an amount of 0', buildPayment({ id: 'pay_odd', amount: 0 })],
  ['no reference', buildPayment({ id: 'pay_odd', reference: '' })],
  ['more than is exact in JSON', buildPayment({ id: 'pay_odd', amount: 2 ** 60 })],
  ['nothing of a payment', null],
])(
  'a payment with %s hides none of the others, and the list says at its end that it is not whole',
  async (_, odd) => {
    answers = [
      answer(200, {
        data: [buildPayment({ id: 'pay_1' }), odd, buildPayment({ id: 'pay_2' })],
        next_cursor: 'c',
      }),
      answer(200, { data: [buildPayment({ id: 'pay_3' })], next_cursor: null }),
    ];

    const { ids, end } = await list();

    expect(ids).toEqual(['pay_1', 'pay_2', 'pay_3']);
    expect(end).toMatchObject({ name: 'UnreadablePaymentsError', count: 1 });
  },
);

test('a redirect is not followed, so that no other address gets the API key', async () => {
  answers = [answer(307, '', { location: `${url}/elsewhere` })];

  await expect(connect().listReversals('pay_1')).rejects.toThrow();
  expect(seen.map(({ path }) => path)).toEqual(['/v1/reversals?payment_id=pay_1']);
});

test('an answer without an end is cut off at its bound', async () => {
  const chunk = 'x'.repeat(64 * 1024);
  answers = [
    (response) => {
      const write = (): void => void (response.writable && response.write(chunk, write));
      write();
    },
  ];

  await expect(connect().listReversals('pay_1')).rejects.toThrow('exceeds');
});

test('an answer whose body never comes is given up in time', async () => {
  answers = [(response) => void response.writeHead(200, { 'content-length': '1000' }).write('{')];

  await expect(connect(500).listReversals('pay_1')).rejects.toThrow(/time/i);
});
