/**
 * Callers that break HTTP itself, or take their time: an answer where one can be given, and no other caller
 * is held up.
 */

import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { MAX_BODIES_BYTES, type AppDeps } from '../../../src/api/app.ts';
import { MAX_WEBHOOK_BYTES } from '../../../src/api/calls/webhooks.ts';
import type { HttpBounds } from '../../../src/api/http/http-server.ts';
import { buildSale } from '../../support/factories.ts';
import { buildDemo, type HttpApp } from '../../support/http-app.ts';
import { acceptedOf, refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { scrapeCounter } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw, sendRaw, type RawConnection } from '../raw-http.ts';
import { harmlessNotice, sendNotice } from '../webhooks/signed-notice.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  ({ saleId } = await api.stores.openSale(buildSale()));
  shopper = await api.shopper();
});
afterAll(async () => {
  expect((await api.stores.saleStock.read(saleId))?.skus[0], 'nothing was taken').toMatchObject({
    available: 10,
    held: 0,
  });
  // After all of it an honest shopper buys as ever.
  await shopper.buy(saleId);
  await api.close();
});

const get = (path = '/healthz') => `GET ${path} HTTP/1.1\r\nHost: shop\r\n`;

interface OrderParts {
  as?: Shopper;
  sale?: string;
  headers?: string;
  body?: string;
}

/** The head of an order and its body, ready to be spoilt. */
function orderParts({ as = shopper, sale = saleId, headers, body }: OrderParts = {}): [
  head: string,
  body: string,
] {
  const cart = body ?? JSON.stringify({ saleId: sale, items: [{ sku: 'lamp', quantity: 1 }] });
  const head = [
    'POST /v1/orders HTTP/1.1',
    'Host: shop',
    `Authorization: ${as.authorization}`,
    `Idempotency-Key: ${ulid()}`,
    'Content-Type: application/json',
    headers ?? `Content-Length: ${cart.length}`,
  ];
  return [`${head.join('\r\n')}\r\n\r\n`, cart];
}

/** An app of its own with these bounds, and a sale of its own. */
async function openBounded(
  bounds: Partial<HttpBounds>,
  parts: Partial<AppDeps> = {},
): Promise<{ app: HttpApp; sale: string }> {
  const app = await api.withParts(parts, bounds);
  const { saleId: sale } = await api.stores.openSale(buildSale());
  return { app, sale };
}

test.each<[string, string]>([
  ['noise', '\x00\x01\x02\xff\r\n\r\n'],
  ['a TLS greeting', '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'],
  ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['the greeting of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['another version of HTTP', 'GET / HTTP/9.9\r\nHost: shop\r\n\r\n'],
  ['a method that does not exist', 'STEAL / HTTP/1.1\r\nHost: shop\r\n\r\n'],
  ['a path with a space', 'GET /a b HTTP/1.1\r\nHost: shop\r\n\r\n'],
  ['no host', 'GET /healthz HTTP/1.1\r\n\r\n'],
  ['what only looks like a URL', 'GET http://shop:99999/[ HTTP/1.1\r\nHost: shop\r\n\r\n'],
  ['two hosts', `${get()}host: other\r\n\r\n`],
  ['no path', 'OPTIONS * HTTP/1.1\r\nHost: shop\r\n\r\n'],
  ['a header without a name', `${get()}: x\r\n\r\n`],
  ['a header without a colon', `${get()}nonsense\r\n\r\n`],
  ['a header with a NUL', `${get()}X-A: a\x00b\r\n\r\n`],
  ['a space before the colon', `${get()}X-A : a\r\n\r\n`],
  ['two lengths', `${get()}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`],
  ['a length and chunks', `${get()}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`],
  ['a negative length', `${get()}Content-Length: -1\r\n\r\n`],
  ['a length beyond any number', `${get()}Content-Length: 99999999999999999999999\r\n\r\n`],
  ['an unknown transfer', `${get()}Transfer-Encoding: chunked, x\r\n\r\n`],
])('a request with %s is answered 400, and the connection closed', async (_, bytes) => {
  expect(refusalOf(await sendRaw(api.url, Buffer.from(bytes, 'latin1')))).toBe('400 malformed_request');
});

test.each(['http://shop/healthz', 'HTTPS://shop:8443/healthz?a=b'])(
  'a whole URL, as a proxy is sent, is read: %s',
  async (url) => {
    expect(await sendRaw(api.url, `${get(url)}Connection: close\r\n\r\n`)).toMatchObject({
      status: 200,
      body: { status: 'ok' },
    });
  },
);

test.each<[string, string]>([
  ['a header of 20 KiB', `${get()}X-A: ${'x'.repeat(20_000)}\r\n\r\n`],
  ['a path of 20 KiB', `${get(`/${'x'.repeat(20_000)}`)}\r\n`],
  ['101 headers', `${get()}${'X-A: a\r\n'.repeat(100)}\r\n`],
  ['2,000 headers', `${get()}${'a:b\r\n'.repeat(2_000)}\r\n`],
])('a request with %s is answered 431', async (_, text) => {
  expect(refusalOf(await sendRaw(api.url, text))).toBe('431 headers_too_large');
});

test('an order whose chunks are malformed is answered 400', async () => {
  const [head] = orderParts({ headers: 'Transfer-Encoding: chunked' });

  expect(refusalOf(await sendRaw(api.url, head, 'zz\r\n{}\r\n'))).toBe('400 malformed_request');
  expect(refusalOf(await sendRaw(api.url, head, `2;${'x'.repeat(20_000)}\r\n{}\r\n`))).toBe(
    '413 body_too_large',
  );
});

test('what cannot be expected, and what only a proxy does, is refused', async () => {
  const [head, body] = orderParts({ headers: 'Expect: the-unexpected\r\nContent-Length: 2', body: '{}' });

  expect(refusalOf(await sendRaw(api.url, head, body))).toBe('417 expectation_failed');
  expect(refusalOf(await sendRaw(api.url, 'CONNECT shop:443 HTTP/1.1\r\nHost: shop\r\n\r\n'))).toBe(
    '405 method_not_allowed',
  );
});

test.each([
  '/../../healthz',
  '/v1/orders/../sales',
  '/%',
  '/%00',
  '/v1/sales/%ff',
  '/v1/sales/..%2f',
  '/?a=%',
  '//shop/healthz',
])('a path of %s leads nowhere', async (path) => {
  expect(refusalOf(await sendRaw(api.url, `${get(path)}Connection: close\r\n\r\n`))).toMatch(
    /^404 \w+_not_found$|^404 no_such_resource$/,
  );
});

test('an order is answered even when noise follows it, and only the order', async () => {
  const { app, sale } = await openBounded({});
  const connection = await openRaw(app.url);
  const [head, body] = orderParts({ sale });

  connection.write(`${head}${body}\x00noise\r\n\r\n`);
  const replies = await connection.untilClosed();

  expect(replies.map(({ status }) => status)).toEqual([202]);
  expect((await shopper.getOrder(acceptedOf(...firstOf(replies)).orderNo)).status).toBe(200);
});

const firstOf = <T>([first]: readonly T[]): [T] => {
  if (first === undefined) throw new Error('there is none');
  return [first];
};

test('after a body that was too large the connection takes the next request', async () => {
  const connection = await openRaw(api.url);
  const [head, body] = orderParts({ body: ' '.repeat(100_000) });

  connection.write(head);
  connection.write(body);
  connection.write(`${get()}\r\n`);
  const [refused, health] = await connection.replies(2);

  expect(refused && refusalOf(refused)).toBe('413 body_too_large');
  expect(health?.status).toBe(200);
  connection.close();
});

/** A connection that sends a body of 20 KiB without an end. */
async function sendEndlessly(url: string): Promise<RawConnection> {
  const connection = await openRaw(url);
  onTestFinished(() => connection.close());
  const [head] = orderParts({ headers: 'Transfer-Encoding: chunked' });
  connection.write(head);
  for (let i = 0; i < 20; i += 1) connection.write(`400\r\n${' '.repeat(1_024)}\r\n`);
  return connection;
}

test('a body that is too large is refused before its end', async () => {
  const { app } = await openBounded({ requestTimeoutMs: 60_000, headersTimeoutMs: 60_000 });
  const connection = await sendEndlessly(app.url);

  expect((await connection.replies(1)).map(refusalOf)).toEqual(['413 body_too_large']);
});

test('the connection of a body that is too large and does not end is closed', async () => {
  const { app } = await openBounded(impatient);
  const connection = await sendEndlessly(app.url);

  await connection.untilClosed();
});

const impatient = { headersTimeoutMs: 300, requestTimeoutMs: 600, checkEveryMs: 50 };

test('a client that does not finish its headers, or its body, gets 408 and is closed', async () => {
  const { app } = await openBounded(impatient);
  const [head, body] = orderParts();

  const replies = await Promise.all([
    sendRaw(app.url, 'GET /healthz HTTP/1.1\r\nHo'),
    sendRaw(app.url, head),
    sendRaw(app.url, head, body.slice(0, -1)),
  ]);

  expect(replies.map(refusalOf)).toEqual([
    '408 request_timeout',
    '408 request_timeout',
    '408 request_timeout',
  ]);
});

test('a client that sends nothing is closed without an answer', async () => {
  const { app } = await openBounded(impatient);

  expect(await (await openRaw(app.url)).untilClosed()).toEqual([]);
});

/**
 * More than all buffers on the way take in, so that some of it still waits to be sent: only then a connection
 * that reads nothing sees its end.
 */
const FLOOD_BYTES = 32 * 1024 * 1024;

test('a client that does not read its answers is closed, and one that is only idle is not', async () => {
  // No other bound is to close it. The idle one must ask within this time, and is then idle for longer.
  const bounds = { stuckTimeoutMs: 5_000, headersTimeoutMs: 600_000, requestTimeoutMs: 600_000 };
  const app = await api.withParts({ demo: buildDemo(saleId) }, bounds);
  const idle = await openRaw(app.url);
  onTestFinished(() => idle.close());
  idle.write(`${get()}\r\n`);
  await idle.replies(1);

  const stuck = await openRaw(app.url);
  onTestFinished(() => stuck.close());
  stuck.stopReading();
  stuck.write(Buffer.alloc(FLOOD_BYTES, `${get('/demo/page.js')}\r\n`));
  await stuck.untilClosed();

  idle.write(`${get()}\r\n`);
  expect((await idle.replies(2)).map(({ status }) => status)).toEqual([200, 200]);
});

test('orders whose bodies dribble in take no place from an order that has arrived', async () => {
  const { app, sale } = await openBounded({}, { purchasesAtOnce: 2, purchasesWaiting: 2 });
  const slow = await Promise.all(
    Array.from({ length: 5 }, async () => {
      const connection = await openRaw(app.url);
      const [head, body] = orderParts({ sale });
      connection.write(`${head}${body.slice(0, 5)}`);
      return connection;
    }),
  );

  await (await app.shopper()).buy(sale);

  for (const connection of slow) connection.close();
  await (await app.shopper()).buy(sale);
});

const noticeHead = (headers: string) =>
  [
    'POST /v1/webhooks/payments HTTP/1.1',
    'Host: shop',
    'Content-Type: application/json',
    headers,
    '',
    '',
  ].join('\r\n');

/** No body is refused for its slowness, however long this machine takes to send them all. */
const PATIENT: Partial<HttpBounds> = {
  headersTimeoutMs: 120_000,
  requestTimeoutMs: 120_000,
  stuckTimeoutMs: 120_000,
};

test('notices that never end keep no more bytes than are set aside, and no honest notice from arriving', async () => {
  const { app, sale } = await openBounded(PATIENT);
  const part = ' '.repeat(MAX_WEBHOOK_BYTES - 1_000);
  const head = noticeHead(`Content-Length: ${MAX_WEBHOOK_BYTES}`);
  const crowd = [];
  for (let bytes = 0; bytes < MAX_BODIES_BYTES; bytes += part.length) {
    const connection = await openRaw(app.url);
    connection.write(`${head}${part}`);
    crowd.push(connection);
  }

  // Those that have taken longest give way.
  const [refused] = await firstOf(crowd)[0].replies(1);
  expect(refused && refusalOf(refused)).toBe('503 overloaded');
  expect(Number(refused?.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
  expect((await sendNotice(app.url, harmlessNotice())).status).toBe(204);
  await (await app.shopper()).buy(sale);
  expect((await scrapeCounter(app.url, 'holdfast_shed_total'))['bodies']).toBeGreaterThanOrEqual(1);

  for (const connection of crowd) connection.close();
  expect((await sendNotice(app.url, harmlessNotice())).status).toBe(204);
});

test('a body in a great many pieces counts with what each piece costs', async () => {
  const { app } = await openBounded(PATIENT);
  const crowd = [];
  for (let i = 0; i < 8; i += 1) {
    const connection = await openRaw(app.url);
    connection.write(noticeHead('Transfer-Encoding: chunked') + '1\r\n \r\n'.repeat(40_000));
    crowd.push(connection);
  }

  const [refused] = await firstOf(crowd)[0].replies(1);
  expect(refused && refusalOf(refused)).toBe('503 overloaded');
  for (const connection of crowd) connection.close();
});

test('a server that stops does not wait for ever for a request that never arrives', async () => {
  const app = await api.withParts({}, { headersTimeoutMs: 300, requestTimeoutMs: 300, checkEveryMs: 60_000 });
  const connection = await openRaw(app.url);
  connection.write(orderParts()[0]);
  await send(`${app.url}/healthz`, 'GET');

  await app.close();

  expect(await connection.untilClosed()).toEqual([]);
});

test('beside 300 idle connections, more than there are places for purchases, an order is taken as ever', async () => {
  const { app, sale } = await openBounded(PATIENT);
  const crowd = await Promise.all(Array.from({ length: 300 }, () => openRaw(app.url)));

  const buyer = await app.shopper();
  await buyer.readOrder(await buyer.buy(sale));

  // None of them was closed for it.
  for (const connection of crowd) connection.write(`${get()}\r\n`);
  for (const connection of crowd) {
    expect((await connection.replies(1)).map(({ status }) => status)).toEqual([200]);
    connection.close();
  }
});

test('with as many connections as there may be, one more is closed at once', async () => {
  const { app } = await openBounded({ connectionsMax: 2 });
  const two = await Promise.all([openRaw(app.url), openRaw(app.url)]);

  expect(await (await openRaw(app.url)).untilClosed()).toEqual([]);

  for (const connection of two) {
    connection.write(`${get()}\r\n`);
    expect((await connection.replies(1)).map(({ status }) => status)).toEqual([200]);
    connection.close();
  }
});

test.each([
  '"',
  'W/',
  'W/"',
  ',,,,',
  '*"',
  '"0',
  `"${'"'.repeat(9_000)}`,
  `x${' '.repeat(15_000)}x`,
  '\u00ff',
])('an If-None-Match of %.20s names no version', async (tags) => {
  const { saleId: sale } = await api.stores.openSale(buildSale());
  const orderNo = await shopper.buy(sale);

  expect((await shopper.getOrder(orderNo, { 'if-none-match': tags })).status).toBe(200);
});
