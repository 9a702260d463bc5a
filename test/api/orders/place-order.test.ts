/** Placing an order: the accepted one, its repeats, and every request that is not as it must be. */

import { ulid } from 'ulidx';
import { beforeAll, expect, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { orderOf, problemOf, refusalOf, send, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [
    { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000, limitPerUser: 2 },
    { sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total: 1_000, limitPerUser: null },
  ];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  shopper = await api.shopper();
});

const lamp = (quantity: unknown = 1) => ({ sku: 'lamp', quantity });
const mugs = (quantity = 1) => ({ saleId, items: [{ sku: 'mug', quantity }] });

test('an accepted order answers 202 with where and when to ask for it', async () => {
  const buyer = await api.shopper();

  const reply = await buyer.placeOrder({ saleId, items: [lamp(2)] });

  expect(reply.status).toBe(202);
  const accepted = orderOf(reply);
  expect(accepted).toMatchObject({
    status: 'queued',
    version: 0,
    payment: 'none',
    reason: null,
    closing: false,
    items: [{ sku: 'lamp', quantity: 2, unitPrice: 4_900 }],
    total: 9_800,
    currency: 'EUR',
  });
  expect(Date.parse(accepted.deadline) - Date.parse(accepted.reservedAt)).toBe(30 * 60 * 1000);
  expect(reply.headers.get('location')).toBe(`/v1/orders/${accepted.orderNo}`);
  // The header counts whole seconds; it and the body name the same moment.
  expect(Number(reply.headers.get('retry-after')) * 1_000).toBe(accepted.pollAfterMs);
  expect(await buyer.readOrder(accepted.orderNo)).toEqual(accepted);
});

test('the same key again answers 200 with the same order and takes nothing more', async () => {
  const buyer = await api.shopper();
  const key = { 'idempotency-key': ulid() };
  const first = orderOf(await buyer.placeOrder({ saleId, items: [lamp()] }, key));
  const before = await api.stores.saleStock.read(saleId);

  const repeated = await buyer.placeOrder({ saleId, items: [lamp()] }, key);

  expect(repeated.status).toBe(200);
  expect(repeated.headers.get('location')).toBe(`/v1/orders/${first.orderNo}`);
  expect(orderOf(repeated)).toEqual(first);
  expect(await api.stores.saleStock.read(saleId)).toEqual(before);
});

test('the same cart in another order is the same request', async () => {
  const buyer = await api.shopper();
  const key = { 'idempotency-key': ulid() };
  const items = [lamp(), { sku: 'mug', quantity: 1 }];
  const { orderNo } = orderOf(await buyer.placeOrder({ saleId, items }, key));

  const repeated = await buyer.placeOrder({ items: items.toReversed(), saleId }, key);

  expect(repeated.status).toBe(200);
  expect(orderOf(repeated).orderNo).toBe(orderNo);
});

test('the same key with another cart is refused with 422', async () => {
  const buyer = await api.shopper();
  const key = { 'idempotency-key': ulid() };
  await buyer.placeOrder({ saleId, items: [lamp(1)] }, key);

  const reply = await buyer.placeOrder({ saleId, items: [lamp(2)] }, key);

  expect(refusalOf(reply)).toBe('422 idempotency_key_reused');
});

test("two shoppers' equal keys are two orders", async () => {
  const key = { 'idempotency-key': ulid() };
  const [ada, bob] = [await api.shopper(), await api.shopper()];

  const replies = [await ada.placeOrder(mugs(), key), await bob.placeOrder(mugs(), key)];

  expect(replies.map(({ status }) => status)).toEqual([202, 202]);
});

test('address and user agent are recorded, a user agent of any length', async () => {
  const reply = await shopper.placeOrder(mugs(), { 'user-agent': `Phone/1.0 ${'x'.repeat(400)}` });

  const reserved = await api.stores.reservations.readOrder(orderOf(reply).orderNo);

  expect(reserved?.order.ip).toMatch(/^(::ffff:)?127\.0\.0\.1$/);
  expect(reserved?.order.userAgent).toBe(`Phone/1.0 ${'x'.repeat(245)}`);
});

test('without trusted proxies the address cannot be forged', async () => {
  const reply = await shopper.placeOrder(mugs(), { 'x-forwarded-for': '203.0.113.9' });

  const reserved = await api.stores.reservations.readOrder(orderOf(reply).orderNo);

  expect(reserved?.order.ip).not.toContain('203.0.113.9');
});

test.each([
  ['203.0.113.9', '203.0.113.9'],
  ['2001:db8::1', '2001:db8::1'],
  ['203.0.113.9:5678', '203.0.113.9'],
  ['[2001:db8::1]:443', '2001:db8::1'],
  ['[2001:db8::1]', '2001:db8::1'],
  ['x'.repeat(100), ''],
  // Node takes a zone of any length for a part of the address; MySQL's column has 45 characters.
  [`fe80::1%${'z'.repeat(40)}`, ''],
])('behind a trusted proxy the address is the one it names, if it is one (%.20s)', async (named, kept) => {
  const app = await api.withParts({ trustedProxyHops: 1 });
  const buyer = await app.shopper();
  const reply = await buyer.placeOrder(mugs(), { 'x-forwarded-for': named });
  const reserved = await api.stores.reservations.readOrder(orderOf(reply).orderNo);
  expect(reserved?.order.ip).toBe(kept);
});

test.each([
  ['absent', undefined, 'idempotency_key_missing'],
  ['empty', '', 'idempotency_key_missing'],
  ['with a space', 'a b', 'idempotency_key_invalid'],
  ['of 129 characters', 'k'.repeat(129), 'idempotency_key_invalid'],
  ['with other than ASCII', 'clé', 'idempotency_key_invalid'],
])('an idempotency key %s is refused', async (_, key, code) => {
  const headers = key === undefined ? {} : { 'idempotency-key': key };

  const reply = await shopper.call('POST', '/v1/orders', { body: mugs(), headers });

  expect(refusalOf(reply)).toBe(`400 ${code}`);
});

test.each([
  ['zero', '0'],
  ['negative', '-1'],
  ['fractional', '1.5'],
  ['beyond any number', '1e309'],
  ['huge', '9007199254740993'],
  ['above the line limit', '101'],
  ['a string', '"1"'],
  ['null', 'null'],
])('a quantity that is %s is refused and named', async (_, quantity) => {
  const body = `{"saleId":"${saleId}","items":[{"sku":"mug","quantity":${quantity}}]}`;

  const reply = await shopper.placeOrder(body);

  expect(refusalOf(reply)).toBe('400 invalid_request');
  expect(problemOf(reply)['faults']).toContainEqual(expect.objectContaining({ path: 'items.0.quantity' }));
});

test.each<[string, () => object | string, string]>([
  ['that is no JSON', () => '{"saleId":', 'malformed_request'],
  ['that is an array', () => '[]', 'invalid_request'],
  ['that is empty', () => '', 'invalid_request'],
  ['with an unknown field', () => ({ ...mugs(), coupon: 'x' }), 'invalid_request'],
  ['with a price of its own', () => ({ saleId, items: [{ ...lamp(), unitPrice: 1 }] }), 'invalid_request'],
  ['without a sale', () => ({ items: [lamp()] }), 'invalid_request'],
  ['without items', () => ({ saleId, items: [] }), 'invalid_request'],
  ['with a SKU twice', () => ({ saleId, items: [lamp(), lamp()] }), 'invalid_request'],
  ['with a malformed SKU', () => ({ saleId, items: [{ sku: ' lamp', quantity: 1 }] }), 'invalid_request'],
  ['with a malformed sale', () => ({ ...mugs(), saleId: 'a}b' }), 'invalid_request'],
  [
    'with 21 lines',
    () => ({ saleId, items: Array.from({ length: 21 }, (_, i) => ({ sku: `s${i}`, quantity: 1 })) }),
    'invalid_request',
  ],
  ['with an unknown SKU', () => ({ saleId, items: [{ sku: 'sofa', quantity: 1 }] }), 'unknown_sku'],
])('a body %s is refused with 400', async (_, body, code) => {
  expect(refusalOf(await shopper.placeOrder(body()))).toBe(`400 ${code}`);
});

test('a body larger than any cart is refused with 413', async () => {
  const reply = await shopper.placeOrder({ ...mugs(), note: 'x'.repeat(20_000) });

  expect(refusalOf(reply)).toBe('413 body_too_large');
});

test('a body that is not sent as JSON is refused', async () => {
  const headers = { 'content-type': 'text/plain', 'idempotency-key': ulid() };

  const reply = await shopper.call('POST', '/v1/orders', { body: JSON.stringify(mugs()), headers });

  expect(refusalOf(reply)).toBe('415 unsupported_media_type');
});

test('a refused request leaves its key free for the right one', async () => {
  const key = { 'idempotency-key': ulid() };
  await shopper.placeOrder({ saleId, items: [{ sku: 'sofa', quantity: 1 }] }, key);

  expect((await shopper.placeOrder(mugs(), key)).status).toBe(202);
});

test('what is not there answers 404, and a wrong method 405, as problems too', async () => {
  expect(refusalOf(await send(`${api.url}/v1/nothing`, 'GET'))).toBe('404 no_such_resource');
  const reply = await send(`${api.url}/v1/orders`, 'PATCH');
  expect(refusalOf(reply)).toBe('405 method_not_allowed');
  expect(reply.headers.get('allow')).toContain('POST');
});
