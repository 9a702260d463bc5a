/**
 * Money that comes while its order is being stored or
 * abandoned: neither transaction sees the other's row yet.
 */

import pLimit from 'p-limit';
import { beforeAll, expect, test } from 'vitest';
import { modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildNotice, buildPayment } from '../support/payment-notices.ts';
import { selectOne, waitForStatement } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/**
 * Receives money for an order that is not stored; `meanwhile` happens after the order was not found,
 * and before the money is written.
 */
async function payWhile(order: Order, meanwhile: () => Promise<unknown>): Promise<void> {
  const notice = buildNotice(buildPayment(order));
  const rival = await stores.pool.getConnection();
  let receiving: Promise<unknown> = Promise.resolve();
  try {
    await rival.beginTransaction();
    // Not committed, the same event holds up its second insert.
    await modify(
      rival,
      `INSERT INTO payment_events (provider, provider_event_id, kind, raw_body) VALUES ('sandbox', ?, 'x', '')`,
      [notice.eventId],
    );
    receiving = stores.payments.receive('sandbox', notice, '{}');
    await waitForStatement(stores.pool, `INSERT INTO payment_events%${notice.eventId}%`);
    await meanwhile();
  } finally {
    await rival.rollback();
    rival.release();
    await receiving;
  }
}

const paymentOf = async ({ orderNo }: Order) =>
  (await selectOne(stores.pool, 'SELECT status FROM payments WHERE order_no = ?', [orderNo]))['status'];

async function newOrder(): Promise<Order> {
  const { saleId } = await stores.openSale(buildSale());
  return buildOrder({ saleId });
}

test('money that comes while its order is being stored pays for the order', async () => {
  const order = await newOrder();
  await payWhile(order, () => stores.orders.storeOrders([order], 'started'));
  expect((await stores.orders.read(order.orderNo))?.state).toMatchObject({ status: 'paid' });
});

test('money that comes while its order is being abandoned is to be refunded', async () => {
  const order = await newOrder();
  await payWhile(order, () => stores.orders.abandon(order, 'store_unavailable'));
  expect(await paymentOf(order)).toBe('refund_due');
});

test('money and storing at once, many times: no order misses its money', async () => {
  const { saleId } = await stores.openSale(
    buildSale({ skus: [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 100, limitPerUser: null }] }),
  );
  const orders = Array.from({ length: 40 }, () => buildOrder({ saleId }));
  // More would wait for a connection, and for two seconds at most.
  const atOnce = pLimit(4);
  await Promise.all(
    orders.map((order) =>
      atOnce(() =>
        Promise.all([
          stores.orders.storeOrders([order], 'started'),
          stores.payments.receive('sandbox', buildNotice(buildPayment(order)), '{}'),
        ]),
      ),
    ),
  );
  for (const { orderNo } of orders) {
    expect((await stores.orders.read(orderNo))?.state).toMatchObject({ status: 'paid', version: 2 });
  }
});
