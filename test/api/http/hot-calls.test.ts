/** Hot calls are answered ahead of the router as the router would: a call with a query is the router's. */

import { beforeAll, expect, test } from 'vitest';
import { MAX_BODY_BYTES } from '../../../src/api/http/request.ts';
import { buildSale } from '../../support/factories.ts';
import type { Call, Reply, Shopper } from '../../support/shopper.ts';
import { orderOf } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let shopper: Shopper;
let stranger: Shopper;
let saleId: string;
let emptyId: string;
let orderNo: string;
beforeAll(async () => {
  api = await openApi();
  [shopper, stranger] = await Promise.all([api.shopper(), api.shopper()]);
  ({ saleId } = await api.stores.openSale(buildSale()));
  const empty = buildSale();
  ({ saleId: emptyId } = await api.stores.openSale({
    ...empty,
    skus: empty.skus.map((sku) => ({ ...sku, total: 0 })),
  }));
  orderNo = await shopper.buy(saleId);
});

/** That differ from one answer to the next, whichever way it goes. */
const EACH = { date: '', ratelimit: '' };
const ANY = { ...EACH, location: '', 'content-length': '' };

/** What is the same of two orders that differ in number and time. */
function shapeOf({ status, headers, body }: Reply) {
  const ofOrder = status < 203 ? { orderNo: '', reservedAt: '', deadline: '' } : {};
  return {
    status,
    headers: { ...Object.fromEntries(headers), ...(status < 203 ? ANY : EACH) },
    body: typeof body === 'object' ? { ...body, ...ofOrder } : body,
  };
}

async function bothWays(method: string, path: string, call: () => Call, who: Shopper) {
  const ask = ({ headers, ...rest }: Call): Call => ({
    ...rest,
    headers: { 'x-request-id': 'both-ways', ...headers },
  });
  const ahead = await who.call(method, path, ask(call()));
  const routed = await who.call(method, `${path}?way=router`, ask(call()));
  expect(shapeOf(ahead)).toEqual(shapeOf(routed));
  return ahead;
}

const cart = (id: string) => ({ saleId: id, items: [{ sku: 'lamp', quantity: 1 }] });
const withKey = (headers: Record<string, string> = {}) => ({
  'idempotency-key': crypto.randomUUID(),
  ...headers,
});

test.each<[number, string, () => Call]>([
  [202, 'that is accepted', () => ({ headers: withKey(), body: cart(saleId) })],
  [409, 'of what is sold out', () => ({ headers: withKey(), body: cart(emptyId) })],
  [404, 'at no sale', () => ({ headers: withKey(), body: cart('no-such-sale') })],
  [400, 'without a key', () => ({ body: cart(saleId) })],
  [400, 'of nothing', () => ({ headers: withKey(), body: {} })],
  [400, 'in broken JSON', () => ({ headers: withKey({ 'content-type': 'application/json' }), body: '{' })],
  [413, 'of too many bytes', () => ({ headers: withKey(), body: { text: 'x'.repeat(MAX_BODY_BYTES) } })],
  [415, 'in another type', () => ({ headers: withKey({ 'content-type': 'text/plain' }), body: 'lamp' })],
  [
    415,
    'that is compressed',
    () => ({ headers: withKey({ 'content-encoding': 'gzip' }), body: cart(saleId) }),
  ],
  [401, 'without a token', () => ({ headers: withKey({ authorization: '' }), body: cart(saleId) })],
  [
    401,
    'with a bad token',
    () => ({ headers: withKey({ authorization: 'Bearer x.y.z' }), body: cart(saleId) }),
  ],
])('a purchase is answered alike both ways: %i %s', async (status, _, call) => {
  const buyer = await api.shopper();

  const { status: answered } = await bothWays('POST', '/v1/orders', call, buyer);

  expect(answered).toBe(status);
});

test('a repeated purchase is answered alike both ways', async () => {
  const [headers, buyer] = [withKey(), await api.shopper()];
  await buyer.placeOrder(cart(saleId), headers);

  const repeated = await bothWays('POST', '/v1/orders', () => ({ headers, body: cart(saleId) }), buyer);

  expect(repeated.status).toBe(200);
  expect(repeated.headers.get('location')).toBe(`/v1/orders/${orderOf(repeated).orderNo}`);
});

test('a poll is answered alike both ways, by version and by owner', async () => {
  const path = `/v1/orders/${orderNo}`;

  const first = await bothWays('GET', path, () => ({}), shopper);
  const etag = first.headers.get('etag') ?? '';
  const again = await bothWays('GET', path, () => ({ headers: { 'if-none-match': etag } }), shopper);
  const others = await bothWays('GET', path, () => ({}), stranger);
  const unnamed = await bothWays('GET', path, () => ({ headers: { authorization: '' } }), shopper);
  const wrong = await bothWays('GET', '/v1/orders/no-order', () => ({}), shopper);

  expect(etag).toBe('"0"');
  expect([first, again, others, unnamed, wrong].map(({ status }) => status)).toEqual([
    200, 304, 404, 401, 404,
  ]);
});

test('a failure of ours is answered alike both ways, and logged', async () => {
  const failing = await api.withParts({
    reservations: { ...api.stores.reservations, reserve: () => Promise.reject(new Error('no answer')) },
  });
  const buyer = await failing.shopper();

  const reply = await bothWays(
    'POST',
    '/v1/orders',
    () => ({ headers: withKey(), body: cart(saleId) }),
    buyer,
  );

  expect([reply.status, reply.headers.get('retry-after')]).toEqual([503, '1']);
  await failing.close();
});
