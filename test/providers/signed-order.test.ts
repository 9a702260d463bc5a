/** The signed order that a payment session carries: what it holds, its size, and which signatures count. */

import { createSecretKey } from 'node:crypto';
import { CompactSign } from 'jose';
import { expect, test } from 'vitest';
import {
  MAX_CART_LINES,
  MAX_CHARGES,
  MAX_CHARGES_BYTES,
  MAX_LINE_QUANTITY,
  MAX_METADATA_BYTES,
  MAX_REFERENCE_CHARS,
  MAX_SKU_BYTES,
  MAX_UNIT_PRICE,
  MAX_USER_ID_BYTES,
} from '../../src/orders/content.ts';
import type { Order } from '../../src/orders/content.ts';
import { formatOrderNo } from '../../src/orders/order.ts';
import { createOrderSigner, MAX_SIGNED_ORDER_CHARS } from '../../src/providers/signed-order.ts';
import { buildOrder } from '../support/factories.ts';

const SECRET = 'a-secret-that-signs-orders-in-these-tests';
const OLDER_SECRET = 'the-secret-that-signed-orders-before-it';

const signer = createOrderSigner([SECRET]);

/** Network address and user agent stay in the shop. */
function essentials(order: Order): Order {
  return { ...order, ip: '', userAgent: '' };
}

test('what was signed comes back, without address and user agent', async () => {
  const order = buildOrder();

  const signed = await signer.sign(order);

  expect(await signer.verify(signed)).toEqual(essentials(order));
  expect(Buffer.from(signed.split('.')[1] ?? '', 'base64url').toString()).not.toContain(order.ip);
});

test('an order is signed the same each time, so a repeated call is the same', async () => {
  const order = buildOrder();

  expect(await signer.sign(order)).toBe(await signer.sign(order));
});

test('the largest order stays within the bound, and comes back', async () => {
  const saleId = 's'.repeat(32);
  const order = buildOrder({
    saleId,
    orderNo: formatOrderNo({ saleId, shard: 999, epoch: 999_999_999, ulid: '7ZZZZZZZZZZZZZZZZZZZZZZZZZ' }),
    // Each quotation mark takes two characters in JSON.
    userId: '"'.repeat(MAX_USER_ID_BYTES),
    idempotencyKey: '"'.repeat(128),
    items: Array.from({ length: MAX_CART_LINES }, (_, line) => ({
      sku: `${String(line).padStart(2, '0')}${'"'.repeat(MAX_SKU_BYTES - 2)}`,
      quantity: MAX_LINE_QUANTITY,
      unitPrice: MAX_UNIT_PRICE,
    })),
    // Each sign takes three bytes.
    reference: '€'.repeat(MAX_REFERENCE_CHARS),
    metadata: { a: 'x'.repeat(MAX_METADATA_BYTES - '{"a":""}'.length) },
    charges: Array.from({ length: MAX_CHARGES }, () => ({
      code: 'c'.repeat(40),
      name: '€'.repeat(35),
      amount: -MAX_UNIT_PRICE,
    })),
    ticket: { id: 'x'.repeat(43), endsAtMs: 2_000_000_000_000 },
  });
  expect(JSON.stringify(order.charges).length).toBeLessThanOrEqual(MAX_CHARGES_BYTES);

  const signed = await signer.sign(order);

  expect(signed.length).toBeLessThanOrEqual(MAX_SIGNED_ORDER_CHARS);
  expect(await signer.verify(signed)).toEqual(essentials(order));
});

test('while a secret is replaced, orders signed with the one before are still known', async () => {
  const order = buildOrder();
  const signed = await createOrderSigner([OLDER_SECRET]).sign(order);
  const rotating = createOrderSigner([SECRET, OLDER_SECRET]);

  expect(await rotating.verify(signed)).toEqual(essentials(order));
  expect(await signer.verify(await rotating.sign(order))).toEqual(essentials(order));
});

test('an order signed with another secret is refused', async () => {
  expect(await signer.verify(await createOrderSigner([OLDER_SECRET]).sign(buildOrder()))).toBeUndefined();
});

test('an order that was changed after it was signed is none', async () => {
  const [header, payload = '', signature] = (await signer.sign(buildOrder())).split('.');
  const json = Buffer.from(payload, 'base64url').toString();
  const cheaper = Buffer.from(json.replace(/"total":\d+/, '"total":1')).toString('base64url');
  expect(cheaper).not.toBe(payload);

  expect(await signer.verify([header, cheaper, signature].join('.'))).toBeUndefined();
});

test.each(['', 'no signature', 'a.b.c', 'e30.e30.'])('"%s" is none', async (signed) => {
  expect(await signer.verify(signed)).toBeUndefined();
});

/** Signed with the right secret, as another service's token might be. */
function sign(payload: string, header: { alg: string; typ?: string }): Promise<string> {
  return new CompactSign(Buffer.from(payload))
    .setProtectedHeader(header)
    .sign(createSecretKey(Buffer.from(SECRET)));
}

test('a token of another type, though signed with the same secret, is no order', async () => {
  const [, payload = ''] = (await signer.sign(buildOrder())).split('.');
  const json = Buffer.from(payload, 'base64url').toString();

  expect(await signer.verify(await sign(json, { alg: 'HS256', typ: 'holdfast-order' }))).toBeDefined();
  expect(await signer.verify(await sign(json, { alg: 'HS256', typ: 'JWT' }))).toBeUndefined();
  expect(await signer.verify(await sign(json, { alg: 'HS256' }))).toBeUndefined();
});

test.each([
  ['has nothing in it', '{}'],
  ['names no order', JSON.stringify({ ...essentials(buildOrder()), orderNo: 'nonsense' })],
  ['has an empty cart', JSON.stringify({ ...essentials(buildOrder()), items: [] })],
])('a signed order that %s is none', async (_what, payload) => {
  expect(await signer.verify(await sign(payload, { alg: 'HS256', typ: 'holdfast-order' }))).toBeUndefined();
});
