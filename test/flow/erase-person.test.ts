/** A person is erased on request: nothing identifies them, the books add up, and money still goes back. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { ordersReply } from '../../src/api/calls/my-orders.ts';
import { modify } from '../../src/mysql/connection.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { erasePerson } from '../../src/reconcile/retention.ts';
import { limitField, saleKeys } from '../../src/redis/keys.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { select, selectOne } from '../support/rows.ts';
import { acceptedOf, type Shopper } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { waitFor } from '../support/wait.ts';

let shop: Checkout;
beforeAll(async () => {
  shop = await openCheckout();
});
afterAll(() => expectCleanAudit(shop));

const DECISION = { actor: 'op', reason: 'a request of the person' };
const erase = ({ userId }: Shopper) => erasePerson(shop.stores, userId, DECISION);

/** The shopper's own list of a day. */
async function numbersOfDay(shopper: Shopper, day: string): Promise<string[]> {
  const { body } = await shopper.call('GET', `/v1/orders?date=${day}`);
  return ordersReply.parse(body).orders.map(({ orderNo }) => orderNo);
}

/** Where a text is found in all of MySQL and Redis. */
async function placesOf(text: string): Promise<string[]> {
  const { pool, redis } = shop.stores;
  const columns = await select(
    pool,
    `SELECT table_name AS name, column_name AS field FROM information_schema.columns
     WHERE table_schema = DATABASE() AND data_type IN ('varchar', 'text', 'char', 'mediumblob', 'mediumtext')`,
  );
  const found: string[] = [];
  for (const { name, field } of columns) {
    const rows = await select(
      pool,
      `SELECT 1 FROM \`${String(name)}\` WHERE \`${String(field)}\` LIKE ? LIMIT 1`,
      [`%${text}%`],
    );
    if (rows.length > 0) found.push(`${String(name)}.${String(field)}`);
  }
  for (const key of await redis.keys('holdfast:*')) {
    const value = (await redis.type(key)) === 'hash' ? JSON.stringify(await redis.hgetall(key)) : '';
    if (`${key} ${value}`.includes(text)) found.push(key);
  }
  return found;
}

/** An endpoint of the shop repeated in its answer what it was sent of the order. */
async function answerWithPerson({ userId }: Shopper, orderNo: string): Promise<void> {
  const { endpoints, replays, pool } = shop.stores;
  const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
  await endpoints.put('office', terms, createSecret(), 'op');
  await endpoints.disable('office', 'op');
  await replays.replay('office', [{ eventId: `${orderNo}.1`, sequence: null, line: orderNo }], 'op');
  await modify(pool, 'UPDATE push_deliveries SET tries = ? WHERE line = ?', [userId, orderNo]);
}

test('nothing in MySQL and Redis names the person any more, and a refund still gives back', async () => {
  const { stores } = shop;
  const [{ saleId }, { saleId: other }] = [
    await stores.openSale(buildSale()),
    await stores.openSale(buildSale()),
  ];
  const shopper = await shop.shopper();
  const { orderNo: paid } = await shop.buyAndPay(saleId, { shopper });
  await shop.buyAndPay(other, { shopper });
  // What a shop should not do.
  const named = { reference: `of-${shopper.userId}`, metadata: { customer: shopper.userId } };
  const bought = await shopper.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }], ...named });
  const cancelled = acceptedOf(bought).orderNo;
  await shop.cancel({ shopper, orderNo: cancelled });
  await expectStock(stores, saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
  await answerWithPerson(shopper, cancelled);
  expect(await placesOf(shopper.userId)).toContain('push_deliveries.tries');
  const day = (await shopper.readOrder(paid)).reservedAt.slice(0, 10);
  expect(await numbersOfDay(shopper, day)).toContain(paid);

  const outcome = await erase(shopper);

  if (outcome.kind !== 'erased') throw new Error(outcome.kind);
  expect(outcome.orders).toBe(3);
  expect(await placesOf(shopper.userId)).toEqual([]);
  expect(await numbersOfDay(shopper, day)).toEqual([]);
  expect(
    await select(
      stores.pool,
      'SELECT DISTINCT user_id, idempotency_key, reference, carried FROM orders WHERE order_no IN (?)',
      [[paid, cancelled]],
    ),
  ).toEqual([{ user_id: outcome.token, idempotency_key: null, reference: null, carried: '{}' }]);
  expect(
    await selectOne(stores.pool, 'SELECT actor, action, reason, detail FROM audit_log WHERE subject = ?', [
      outcome.token,
    ]),
  ).toEqual({ ...DECISION, action: 'person_erased', detail: '{"orders":3}' });
  await expectCleanAudit(shop);
  expect(await erase(shopper)).toEqual({ kind: 'unknown' });

  const paymentId = await shop.paymentIdOf({ orderNo: paid });
  await stores.refunds.request(paymentId, 'op');
  await shop.awaitReturned({ orderNo: paid });
  await waitFor(
    'the refund to be recorded',
    async () => (await stores.refunds.read({ paymentId }))?.status === 'refunded',
  );
});

test('a person with an open order is not erased before it has ended', async () => {
  const { saleId } = await shop.stores.openSale(buildSale());
  const shopper = await shop.shopper();
  const orderNo = await shopper.buy(saleId);
  expect((await erase(shopper)).kind).toBe('busy');
  await shopper.awaitStatus(orderNo, 'awaiting_payment');
  expect(await erase(shopper)).toEqual({ kind: 'busy', orderNos: [orderNo] });
  await shop.cancel({ shopper, orderNo });
  await expectStock(shop.stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
  expect(await erase(shopper)).toMatchObject({ kind: 'erased', orders: 1 });
});

test('an order that waits to be stored is seen though units that were bought before count no more', async () => {
  const { stores } = shop;
  const { saleId } = await stores.openSale(buildSale());
  const { shopper, orderNo } = await shop.buyAndPay(saleId);
  const items = [{ sku: 'lamp', quantity: 1 }];
  await stores.refunds.requestByOrder(
    orderNo,
    { kind: 'units', items, amount: 1, charges: false, restock: true, restoresLimit: true },
    DECISION,
    { idempotencyKey: 'part', fingerprint: 'f' },
  );
  await expectStock(stores, saleId, { sku: 'lamp', available: 10, held: 0, sold: 0 });
  // As of an order that is accepted and not stored yet.
  await stores.redis.hset(saleKeys({ saleId, shard: 0 }).limits, limitField('lamp', shopper.userId), 1);

  expect(await erase(shopper)).toEqual({ kind: 'busy', orderNos: [] });

  await stores.redis.hdel(saleKeys({ saleId, shard: 0 }).limits, limitField('lamp', shopper.userId));
  expect(await erase(shopper)).toMatchObject({ kind: 'erased', orders: 1 });
});

test('an erasure that died half-way is finished by a repeat, under the same token', async () => {
  const { stores } = shop;
  const { saleId } = await stores.openSale(buildSale());
  const { shopper } = await shop.buyAndPay(saleId);
  await shop.buyAndPay(saleId, { shopper });
  await expectStock(stores, saleId, { sku: 'lamp', available: 8, held: 0, sold: 2 });
  const dies = () => Promise.reject(new Error('died'));
  const beforeMysql = { ...stores, persons: { ...stores.persons, replace: dies } };
  await expect(erasePerson(beforeMysql, shopper.userId, DECISION)).rejects.toThrow('died');
  const beforeTheEnd = { ...stores, persons: { ...stores.persons, end: dies } };
  await expect(erasePerson(beforeTheEnd, shopper.userId, DECISION)).rejects.toThrow('died');
  const token = await stores.persons.begin(shopper.userId);
  expect(await erase(shopper)).toEqual({ kind: 'erased', token, orders: 2 });
  expect(await placesOf(shopper.userId)).toEqual([]);
});

test('a person of whom nothing is known is not erased', async () => {
  expect(await erase(await shop.shopper())).toEqual({ kind: 'unknown' });
});
