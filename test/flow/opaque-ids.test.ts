/**
 * Ids as other systems have them go through the whole service: bought, paid, refunded, compared with drift,
 * rebuilt and erased.
 */

import { beforeAll, expect, test } from 'vitest';
import { createOrderEngine } from '../../src/engine/order-engine.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { erasePerson } from '../../src/reconcile/retention.ts';
import { RECONCILE_STEPS } from '../../src/reconcile/steps.ts';
import { limitField, saleKeys } from '../../src/redis/keys.ts';
import type { StepReport } from '../../src/workflows/contract.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { keep } from '../support/keep.ts';
import { select } from '../support/rows.ts';
import { acceptedOf, orderOf, type Shopper } from '../support/shopper.ts';
import { signer } from '../support/signer.ts';
import { silent } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

/** Together as user ids and as SKUs, of which some differ only in how a key might escape them. */
const PAIRS = [
  { userId: 'VXNlcjox==', sku: 'A 4/2 blue' },
  { userId: 'gid://shopify/Customer/1', sku: 'a:b' },
  { userId: 'jane+shop@example.com', sku: 'a%3Ab' },
  { userId: 'b:lamp', sku: 'a' },
  { userId: '%3A', sku: '%' },
  { userId: '💡', sku: '灯=1' },
  { userId: `"${'\\'.repeat(254)}`, sku: `"${'\\'.repeat(99)}` },
  { userId: `${'é'.repeat(127)}x`, sku: '💡'.repeat(25) },
];
const PRICE = 1_000;

let shop: Checkout;
let saleId: string;
beforeAll(async () => {
  shop = await openCheckout();
  const skus = PAIRS.map(({ sku }) => ({ sku, name: 'Thing', unitPrice: PRICE, total: 10, limitPerUser: 1 }));
  ({ saleId } = await shop.stores.openSale(buildSale({ skus })));
});

const readLimits = () => shop.stores.redis.hgetall(saleKeys({ saleId, shard: 0 }).limits);

async function buyAndPay(shopper: Shopper, sku: string): Promise<string> {
  const { orderNo } = await shop.buyAndPay(saleId, { shopper, sku });
  expect((await shopper.readOrder(orderNo)).items).toEqual([{ sku, quantity: 1, unitPrice: PRICE }]);
  return orderNo;
}

async function compare(): Promise<StepReport | undefined> {
  const { stores, provider, client } = shop;
  const engine = createOrderEngine(client, { eager: false });
  const deps = { ...stores, engine, provider, signer, keep, log: silent };
  return RECONCILE_STEPS.get('drift')?.(deps, new AbortController().signal);
}

test('each user has what they bought, and no other user has it, until they are erased', async () => {
  const { stores } = shop;
  const kept: Record<string, string> = {};
  for (const [i, { userId, sku }] of PAIRS.entries()) {
    const shopper = await shop.shopper(userId);
    const next = PAIRS[(i + 1) % PAIRS.length]?.sku ?? '';
    await buyAndPay(shopper, sku);
    const refunded = await buyAndPay(shopper, next);
    await shop.refund({ orderNo: refunded });
    await shop.awaitPayment({ shopper, orderNo: refunded }, 'refunded');
    kept[limitField(sku, userId)] = '1';
  }
  await waitFor('what was refunded to be given back', async () => {
    return Object.keys(await readLimits()).length === PAIRS.length;
  });
  expect(await readLimits()).toEqual(kept);
  expect(await compare()).toMatchObject({ repaired: 0, parked: 0 });

  // A difference is found under the right SKU.
  const [{ userId, sku } = { userId: '', sku: '' }] = PAIRS.slice(1);
  await stores.redis.hincrby(saleKeys({ saleId, shard: 0 }).limits, limitField(sku, userId), 1);
  expect(await compare()).toMatchObject({ repaired: 1, parked: 0 });
  expect(await readLimits()).toEqual(kept);
  expect(
    await select(stores.pool, "SELECT action FROM audit_log WHERE subject = ? AND actor = 'holdfast'", [
      `sale ${saleId} ${sku}`,
    ]),
  ).toEqual([{ action: 'limit_corrected' }]);

  const rebuilt = await rebuildSale({ ...stores, log: silent }, saleId, { cause: 'lost' });
  expect(rebuilt.kind).toBe('rebuilt');
  expect(await readLimits()).toEqual(kept);
  expect(await compare()).toMatchObject({ repaired: 0, parked: 0 });
  await expectCleanAudit(shop);

  const tokens: string[] = [];
  for (const person of PAIRS) {
    const outcome = await erasePerson(stores, person.userId, { actor: 'op', reason: 'asked' });
    expect(outcome).toMatchObject({ kind: 'erased', orders: 2 });
    if (outcome.kind === 'erased') tokens.push(limitField(person.sku, outcome.token));
  }
  expect(Object.keys(await readLimits()).toSorted()).toEqual(tokens.toSorted());
  expect(await compare()).toMatchObject({ repaired: 0, parked: 0 });
  await expectCleanAudit(shop);
});

test('a request that is repeated finds its own order, and not that of a user of a similar id', async () => {
  const { stores } = shop;
  const mug = { sku: 'mug', name: 'Mug', unitPrice: PRICE, total: 10, limitPerUser: null };
  const { saleId: other } = await stores.openSale(buildSale({ skus: [mug] }));
  const place = async (userId: string, key: string) => {
    const shopper = await shop.shopper(userId);
    const body = { saleId: other, items: [{ sku: 'mug', quantity: 1 }] };
    return shopper.placeOrder(body, { 'idempotency-key': key });
  };

  const first = acceptedOf(await place('a:b', 'c'));
  expect(acceptedOf(await place('a', 'b:c')).orderNo).not.toBe(first.orderNo);
  expect(acceptedOf(await place('a%3Ab', 'c')).orderNo).not.toBe(first.orderNo);
  const again = await place('a:b', 'c');
  expect([again.status, orderOf(again).orderNo]).toEqual([200, first.orderNo]);
});
