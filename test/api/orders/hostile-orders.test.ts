/** Hostile orders: each is refused with a clear 4xx, and nothing is taken. */

import { createHmac, generateKeyPairSync } from 'node:crypto';
import { brotliCompressSync, deflateSync, gzipSync } from 'node:zlib';
import { SignJWT } from 'jose';
import { ulid } from 'ulidx';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { checkReply, type Reply } from '../../support/api-contract.ts';
import { buildSale } from '../../support/factories.ts';
import { JWT_SECRET, problemOf, refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;
let before: unknown;

beforeAll(async () => {
  api = await openApi();
  ({ saleId } = await api.stores.openSale(buildSale()));
  shopper = await api.shopper();
});
afterAll(async () => {
  // After all of it an honest shopper buys as ever.
  await shopper.buy(saleId);
  expect((await api.stores.saleStock.read(saleId))?.skus[0]).toMatchObject({
    available: 9,
    held: 1,
    sold: 0,
  });
  await api.close();
});

/** Everything that Redis has, but for what changes with time. */
async function everything(): Promise<unknown> {
  const keys = (await api.stores.redis.keys('*')).toSorted();
  return { keys, stock: await api.stores.saleStock.read(saleId) };
}

beforeEach(async () => {
  before = await everything();
});
afterEach(async () => {
  expect(await everything(), 'nothing was taken and nothing left behind').toEqual(before);
});

/** One line, written by hand: JSON.stringify would not write what these tests send. */
const line = (sku: string, quantity: string) =>
  `{"saleId":"${saleId}","items":[{"sku":${sku},"quantity":${quantity}}]}`;

test.each([
  '0',
  '-0',
  '-1',
  '-1e308',
  '1e309',
  '-1e309',
  '1e-9',
  '0.1',
  '1.0000000001',
  '101',
  '4294967297',
  '9007199254740993',
  `1${'0'.repeat(400)}`,
  '"1"',
  '"1; DROP TABLE orders"',
  '" 1"',
  'true',
  'null',
  '[1]',
  '{"valueOf":1}',
])('a quantity of %.40s is refused and named', async (quantity) => {
  const reply = await shopper.placeOrder(line('"lamp"', quantity));

  expect(refusalOf(reply)).toBe('400 invalid_request');
  expect(problemOf(reply)['faults']).toContainEqual(expect.objectContaining({ path: 'items.0.quantity' }));
});

test.each(['01', '+1', '1.', '.5', '0x1', '1_000', 'NaN', 'Infinity', '-', '1e', '\u0661'])(
  'a quantity of %s, which is no JSON, is refused',
  async (quantity) => {
    expect(refusalOf(await shopper.placeOrder(line('"lamp"', quantity)))).toBe('400 malformed_request');
  },
);

test.each([
  ['with a NUL', 'lamp\u0000'],
  ['with a line break', 'lamp\r\nHSET'],
  ['with a zero-width space', 'la\u200Bmp'],
  ['from right to left', '\u202Elamp'],
  ['with half a surrogate pair', '\uD83D'],
  ['with a space around', ' lamp '],
  ['that is empty', ''],
  ['with a no-break space before it', '\u00A0lamp'],
  ['with a line separator', 'la\u2028mp'],
  ['for private use', 'la\uE000mp'],
  ['of 101 bytes', 'l'.repeat(101)],
  ['of 34 characters that take 102 bytes', '灯'.repeat(34)],
  ['of ten thousand characters', 'l'.repeat(10_000)],
])('a SKU %s is refused and named', async (_, sku) => {
  const reply = await shopper.placeOrder({ saleId, items: [{ sku, quantity: 1 }] });

  expect(refusalOf(reply)).toBe('400 invalid_request');
  expect(problemOf(reply)['faults']).toContainEqual(expect.objectContaining({ path: 'items.0.sku' }));
});

test.each([
  'constructor',
  'toString',
  'hasOwnProperty',
  'valueOf',
  'total',
  'available',
  'epoch',
  'LAMP',
  '0',
  '__proto__',
  '../lamp',
  'lamp:total',
  'lamp:available',
  '{x}:stock',
  'price:lamp',
  'lam*',
  'ｌａｍｐ',
  'lаmp',
  'lam\u0301p',
  '💡',
  'l'.repeat(100),
])('a SKU named %s is one that the sale does not have', async (sku) => {
  const reply = await shopper.placeOrder({ saleId, items: [{ sku, quantity: 1 }] });

  expect(refusalOf(reply)).toBe('400 unknown_sku');
  expect(problemOf(reply)['sku']).toBe(sku);
});

test.each(['constructor', 'valueof', 'holdfast', 'sales'])('a sale named %s is not found', async (name) => {
  const reply = await shopper.placeOrder({ saleId: name, items: [{ sku: 'lamp', quantity: 1 }] });

  expect(refusalOf(reply)).toBe('404 sale_not_found');
});

test.each<[string, () => string]>([
  ['whose later of two equal keys is wrong', () => line('"lamp"', '1,"quantity":0')],
  [
    'with the same SKU twice',
    () => `{"saleId":"${saleId}","items":[${'{"sku":"lamp","quantity":1},'.repeat(2).slice(0, -1)}]}`,
  ],
  ['with a field of its own', () => line('"lamp"', '1,"unitPrice":0')],
  ['with a user of its own', () => `{"userId":"bob",${line('"lamp"', '1').slice(1)}`],
  [
    'with items that are no list',
    () => `{"saleId":"${saleId}","items":{"0":{"sku":"lamp","quantity":1},"length":1}}`,
  ],
  ['with items in items', () => `{"saleId":"${saleId}","items":${'['.repeat(5_000)}${']'.repeat(5_000)}}`],
  ['with a sale that is a list', () => `{"saleId":["${saleId}"],"items":[{"sku":"lamp","quantity":1}]}`],
  ['of lists in lists', () => `${'['.repeat(8_000)}${']'.repeat(8_000)}`],
  ['that is a text instead of an object', () => JSON.stringify(line('"lamp"', '1'))],
  ['that is a number', () => '1e309'],
  ['that is null', () => 'null'],
  ['that is true', () => ' true '],
  ['that is a list', () => `[${line('"lamp"', '1')}]`],
  [
    'with a thousand lines',
    () => `{"saleId":"${saleId}","items":[${Array.from({ length: 500 }, () => '{"sku":"l"}').join(',')}]}`,
  ],
])('a cart %s is refused', async (_, body) => {
  expect(refusalOf(await shopper.placeOrder(body()))).toBe('400 invalid_request');
});

test.each<[string, () => string]>([
  ['a prototype', () => `{"__proto__":{"admin":true},${line('"lamp"', '1').slice(1)}`],
  ['a prototype, written otherwise', () => `{"\\u005f_proto__":{},${line('"lamp"', '1').slice(1)}`],
  ['a prototype in a line', () => line('"lamp"', '1,"__proto__":{"quantity":99}')],
  ['lists that do not end', () => '['.repeat(10_000)],
  ['two documents', () => line('"lamp"', '1').repeat(2)],
  ['a comment', () => `${line('"lamp"', '1')}//`],
  ['a NUL', () => `${line('"lamp"', '1')}\u0000`],
  ['JavaScript', () => `{saleId:'${saleId}'}`],
])('a body with %s is refused', async (_, body) => {
  expect(refusalOf(await shopper.placeOrder(body()))).toBe('400 malformed_request');
});

/** As the shopper sends it, but for bytes and headers. */
async function sendBytes(
  body: Uint8Array | string | ReadableStream<Uint8Array>,
  headers: Record<string, string>,
): Promise<Reply> {
  const url = `${api.url}/v1/orders`;
  const response = await fetch(url, {
    method: 'POST',
    headers: { authorization: shopper.authorization, 'idempotency-key': ulid(), ...headers },
    body,
    // Node demands it of a stream.
    duplex: 'half',
  });
  const reply = { status: response.status, headers: response.headers, body: await response.json() };
  checkReply('POST', url, reply);
  return reply;
}

const json = { 'content-type': 'application/json' };

test('bytes that are no UTF-8 are refused', async () => {
  const body = Buffer.from(line('"lamp#"', '1'));
  body[body.indexOf('#')] = 0xff;

  expect(refusalOf(await sendBytes(body, json))).toBe('400 malformed_request');
  expect(refusalOf(await sendBytes(Buffer.from(line('"lamp"', '1'), 'utf16le'), json))).toBe(
    '400 malformed_request',
  );
});

test.each([
  'text/plain',
  'application/x-www-form-urlencoded',
  'multipart/form-data',
  'application/jsonp',
  'nonsense',
  '/',
  'application/json, text/plain',
])('a body sent as %s is refused', async (type) => {
  const reply = await sendBytes(line('"lamp"', '1'), { 'content-type': type });

  expect(refusalOf(reply)).toBe('415 unsupported_media_type');
});

test.each(['charset=utf-8', 'charset="UTF-8"', 'charset=utf8'])(
  'a body whose %s is named is read',
  async (charset) => {
    const reply = await sendBytes('{', { 'content-type': `application/json; ${charset}` });

    expect(refusalOf(reply)).toBe('400 malformed_request');
  },
);

test.each([
  ['gzip', gzipSync],
  ['deflate', deflateSync],
  ['br', brotliCompressSync],
  ['gzip, gzip', (bytes: Buffer) => gzipSync(gzipSync(bytes))],
  ['x-unknown', (bytes: Buffer) => bytes],
])('a body compressed with %s is not inflated', async (encoding, compress) => {
  const bomb = compress(Buffer.from(' '.repeat(4_000_000)));

  const reply = await sendBytes(bomb.subarray(0, 15_000), { ...json, 'content-encoding': encoding });

  expect(refusalOf(reply)).toBe('415 unsupported_content_encoding');
  expect(reply.headers.get('accept-encoding')).toBe('identity');
});

test('a body that grows without end is cut off, whatever it declares', async () => {
  const chunk = Buffer.from(' '.repeat(8_000));
  let sent = 0;
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      sent += 1;
      controller.enqueue(chunk);
      if (sent === 10) controller.close();
    },
  });

  expect(refusalOf(await sendBytes(body, json))).toBe('413 body_too_large');
});

test.each([
  ['with a space', 'a b'],
  ['with a tab', 'a\tb'],
  ['of 129 characters', 'k'.repeat(129)],
  ['with other than ASCII', 'cl\u00e9'],
])('an idempotency key %s is refused', async (_, key) => {
  const reply = await shopper.placeOrder(line('"lamp"', '1'), { 'idempotency-key': key });

  expect(refusalOf(reply)).toBe('400 idempotency_key_invalid');
});

const encode = (part: unknown) => Buffer.from(JSON.stringify(part)).toString('base64url');
const inAnHour = () => Math.floor(Date.now() / 1000) + 3_600;
const claims = (sub: unknown) => ({ sub, iss: 'holdfast', exp: inAnHour() });

/** Signed with our secret, whatever is in it. */
function sign(payload: string, header: unknown = { alg: 'HS256' }): string {
  const content = `${encode(header)}.${payload}`;
  return `${content}.${createHmac('sha256', JWT_SECRET).update(content).digest('base64url')}`;
}

test.each<[string, () => Promise<string> | string]>([
  ['without a signature', () => `${encode({ alg: 'none' })}.${encode(claims('ada'))}.`],
  ['whose algorithm is written otherwise', () => sign(encode(claims('ada')), { alg: 'hs256' })],
  ['without an algorithm', () => sign(encode(claims('ada')), {})],
  [
    'with extensions that must be understood',
    () => sign(encode(claims('ada')), { alg: 'HS256', crit: ['x'], x: 1 }),
  ],
  ['whose header is a list', () => sign(encode(claims('ada')), [])],
  ['whose claims are a list', () => sign(encode([]))],
  ['whose claims are null', () => sign('bnVsbA')],
  ['whose claims are no JSON', () => sign('eyJ')],
  [
    'with a prototype',
    () => sign(Buffer.from('{"__proto__":{"sub":"ada","iss":"holdfast","exp":9e9}}').toString('base64url')),
  ],
  ['that has expired', () => sign(encode({ ...claims('ada'), exp: 1 }))],
  ['that expires as text', () => sign(encode({ ...claims('ada'), exp: String(inAnHour()) }))],
  ['that is not valid yet', () => sign(encode({ ...claims('ada'), nbf: inAnHour() }))],
  ['of no user', () => sign(encode({ iss: 'holdfast', exp: inAnHour() }))],
  ['of an empty user', () => sign(encode(claims('')))],
  ['whose user is a number', () => sign(encode(claims(123)))],
  ['whose user is a list', () => sign(encode(claims(['ada'])))],
  ['whose user is null', () => sign(encode(claims(null)))],
  ['whose user has a NUL', () => sign(encode(claims('ada\u0000')))],
  ['whose user is 256 bytes long', () => sign(encode(claims('a'.repeat(256))))],
  ['whose user was not read as UTF-8', () => sign(encode(claims('ad\uFFFD')))],
  ['larger than 4 KiB', () => sign(encode({ ...claims('ada'), pad: 'x'.repeat(6_000) }))],
  [
    'signed with a key pair',
    () =>
      new SignJWT({ iss: 'holdfast', sub: 'ada', exp: inAnHour() })
        .setProtectedHeader({ alg: 'RS256' })
        .sign(keyPair.privateKey),
  ],
  [
    'in two parts',
    () =>
      sign(encode(claims('ada')))
        .split('.')
        .slice(0, 2)
        .join('.'),
  ],
  ['in six parts', () => `${sign(encode(claims('ada')))}.a.b.c`],
])('an order with a token %s is refused', async (_, token) => {
  const reply = await send(`${api.url}/v1/orders`, 'POST', {
    headers: { authorization: `Bearer ${await token()}`, 'idempotency-key': ulid() },
    body: line('"lamp"', '1'),
  });

  expect(refusalOf(reply)).toBe('401 unauthorized');
});

const keyPair = generateKeyPairSync('rsa', { modulusLength: 2_048 });

test.each([
  '..',
  '%2e%2e%2fsales',
  'a%00b',
  '%',
  '%E0%A4%A',
  '%c0%ae',
  "'%20OR%201=1",
  'a'.repeat(8_000),
  's-0-1-01JD0000000000000000000000%00',
  's-0-999999999999-01JD0000000000000000000000',
  's-999-1-01JD0000000000000000000000',
])('an order by the name of %.40s is not found', async (name) => {
  for (const path of [`/v1/orders/${name}`, `/v1/orders/${name}?source=workflow`]) {
    expect(refusalOf(await shopper.call('GET', path))).toMatch(/^404 (order_not_found|no_such_resource)$/);
  }
});

test.each(['?source=', '?source=x', '?source=workflow&source=workflow', '?source[]=workflow'])(
  'a query of %s is refused, or means nothing',
  async (query) => {
    const reply = await shopper.call('GET', `/v1/orders/s-0-1-01JD0000000000000000000000${query}`);

    expect(refusalOf(reply)).toMatch(/^(400 invalid_request|404 order_not_found)$/);
  },
);

test('a trailing slash or other letters are no second way to order', async () => {
  for (const path of ['/v1/orders/', '/V1/orders', '//v1/orders', '/v1/%6frders']) {
    const reply = await shopper.call('POST', path, {
      body: line('"lamp"', '1'),
      headers: { 'idempotency-key': ulid() },
    });
    expect(refusalOf(reply)).toMatch(/^(404 no_such_resource|405 method_not_allowed)$/);
  }
});
