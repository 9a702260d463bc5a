import { createSecretKey } from 'node:crypto';
import { CompactSign } from 'jose';
import { expect, test } from 'vitest';
import { MAX_CART_LINES, MAX_LINE_QUANTITY, MAX_UNIT_PRICE } from '../../src/domain/limits.ts';
import { formatOrderNo, type Order } from '../../src/domain/order.ts';
import { createOrderSealer, MAX_SEALED_ORDER_CHARS } from '../../src/payments/sealed-order.ts';
import { buildOrder } from '../support/factories.ts';

const SECRET = 'a-secret-that-seals-orders-in-these-tests';
const OLDER_SECRET = 'the-secret-that-sealed-orders-before-it';

const sealer = createOrderSealer([SECRET]);

/** Network address and user agent stay in the shop. */
function essentials(order: Order): Order {
  return { ...order, ip: '', userAgent: '' };
}

test('what was sealed comes back, without address and user agent', async () => {
  const order = buildOrder();

  const sealed = await sealer.seal(order);

  expect(await sealer.unseal(sealed)).toEqual(essentials(order));
  expect(Buffer.from(sealed.split('.')[1] ?? '', 'base64url').toString()).not.toContain(order.ip);
});

test('an order is sealed the same each time, so a repeated call is the same', async () => {
  const order = buildOrder();

  expect(await sealer.seal(order)).toBe(await sealer.seal(order));
});

test('the largest order stays within the bound, and comes back', async () => {
  const saleId = 's'.repeat(32);
  const order = buildOrder({
    saleId,
    orderNo: formatOrderNo({ saleId, shard: 999, epoch: 999_999_999, ulid: '7ZZZZZZZZZZZZZZZZZZZZZZZZZ' }),
    userId: 'u'.repeat(128),
    // Each of them takes two characters in JSON.
    idempotencyKey: '"'.repeat(128),
    items: Array.from({ length: MAX_CART_LINES }, (_, line) => ({
      sku: `${String(line).padStart(2, '0')}${'k'.repeat(62)}`,
      quantity: MAX_LINE_QUANTITY,
      unitPrice: MAX_UNIT_PRICE,
    })),
  });

  const sealed = await sealer.seal(order);

  expect(sealed.length).toBeLessThanOrEqual(MAX_SEALED_ORDER_CHARS);
  expect(await sealer.unseal(sealed)).toEqual(essentials(order));
});

test('while a secret is replaced, orders sealed with the one before are still known', async () => {
  const order = buildOrder();
  const sealed = await createOrderSealer([OLDER_SECRET]).seal(order);
  const rotating = createOrderSealer([SECRET, OLDER_SECRET]);

  expect(await rotating.unseal(sealed)).toEqual(essentials(order));
  expect(await sealer.unseal(await rotating.seal(order))).toEqual(essentials(order));
});

test('an order sealed with another secret is none of ours', async () => {
  expect(await sealer.unseal(await createOrderSealer([OLDER_SECRET]).seal(buildOrder()))).toBeUndefined();
});

test('an order that was changed after it was sealed is none', async () => {
  const [header, payload = '', signature] = (await sealer.seal(buildOrder())).split('.');
  const json = Buffer.from(payload, 'base64url').toString();
  const cheaper = Buffer.from(json.replace(/"total":\d+/, '"total":1')).toString('base64url');
  expect(cheaper).not.toBe(payload);

  expect(await sealer.unseal([header, cheaper, signature].join('.'))).toBeUndefined();
});

test.each(['', 'no seal', 'a.b.c', 'e30.e30.'])('"%s" is none', async (sealed) => {
  expect(await sealer.unseal(sealed)).toBeUndefined();
});

/** Signed with the right secret, as somebody else's token might be. */
function sign(payload: string, header: { alg: string; typ?: string }): Promise<string> {
  return new CompactSign(Buffer.from(payload))
    .setProtectedHeader(header)
    .sign(createSecretKey(Buffer.from(SECRET)));
}

test('a token of another type, though signed with the same secret, is no order', async () => {
  const [, payload = ''] = (await sealer.seal(buildOrder())).split('.');
  const json = Buffer.from(payload, 'base64url').toString();

  expect(await sealer.unseal(await sign(json, { alg: 'HS256', typ: 'holdfast-order' }))).toBeDefined();
  expect(await sealer.unseal(await sign(json, { alg: 'HS256', typ: 'JWT' }))).toBeUndefined();
  expect(await sealer.unseal(await sign(json, { alg: 'HS256' }))).toBeUndefined();
});

test.each([
  ['has nothing in it', '{}'],
  ['names no order', JSON.stringify({ ...essentials(buildOrder()), orderNo: 'nonsense' })],
  ['has an empty cart', JSON.stringify({ ...essentials(buildOrder()), items: [] })],
])('a signed order that %s is none', async (_what, payload) => {
  expect(await sealer.unseal(await sign(payload, { alg: 'HS256', typ: 'holdfast-order' }))).toBeUndefined();
});
