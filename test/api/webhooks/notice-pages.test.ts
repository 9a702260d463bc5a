/** Notices that arrive together share a transaction, and each is answered for itself. */

import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createNoticeInbox } from '../../../src/api/notice-inbox.ts';
import type { PaymentNotice } from '../../../src/money/payment.ts';
import { modify, type PoolConnection } from '../../../src/mysql/connection.ts';
import type { StoredOrder } from '../../../src/orders/rows.sql.ts';
import type { Stores } from '../../../src/stores/open.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { buildNotice } from '../../support/payment-notices.ts';
import { expectBooksToBalance, select, waitForStatement } from '../../support/rows.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openTestLog } from '../test-log.ts';
import { paidNotice, sendNotice } from './signed-notice.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

/** So many orders of one SKU that wait for their payments, in the order of their numbers. */
async function storeOrders(count: number) {
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  const { saleId } = await api.stores.openSale(buildSale({ skus }));
  const shopper = await api.shopper();
  const orderNos: string[] = [];
  for (let i = 0; i < count; i += 1) orderNos.push(await shopper.buy(saleId));
  for (const orderNo of orderNos) await api.store(orderNo);
  return { saleId, orderNos: orderNos.toSorted() };
}

/** An app whose first page of notices waits until so many notices have come. `pages`: how many each had. */
async function openGathering(count: number) {
  const { log, lines } = openTestLog();
  const pages: number[] = [];
  let come = 0;
  let letGo = (): void => {};
  const allHere = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const { payments } = api.stores;
  const app = await api.withParts({
    log,
    provider: {
      ...api.provider,
      verifyNotice(...given) {
        const notice = api.provider.verifyNotice(...given);
        come += 1;
        if (come === count) letGo();
        return notice;
      },
    },
    payments: {
      ...payments,
      async receivePage(provider, page) {
        pages.push(page.length);
        await allHere;
        return payments.receivePage(provider, page);
      },
    },
  });
  onTestFinished(() => app.close());
  const isOneByOne = () => JSON.stringify(lines()).includes('notices are received one by one');
  return { app, pages, isOneByOne };
}

const sendAll = ({ url }: HttpApp, orderNos: readonly string[]): Promise<number>[] =>
  orderNos.map(async (orderNo) => (await sendNotice(url, paidNotice(orderNo))).status);

const statesOf = (saleId: string) =>
  select(
    api.stores.pool,
    `SELECT o.status, o.version, p.status AS payment FROM orders o JOIN payments p ON p.order_no = o.order_no
     WHERE o.sale_id = ? ORDER BY o.order_no`,
    [saleId],
  );

const PAID = { status: 'paid', version: 2, payment: 'applied' };

async function expectAllPaid(saleId: string, count: number): Promise<void> {
  expect(await statesOf(saleId)).toEqual(Array.from({ length: count }, () => PAID));
  expect((await api.stores.sales.readStock(saleId))[0]).toMatchObject({ held: 0, sold: count });
  await expectBooksToBalance(api.stores, saleId);
}

/** A transaction of another, which is rolled back at the latest with the test. */
async function openRival(): Promise<PoolConnection> {
  const rival = await api.stores.pool.getConnection();
  await rival.beginTransaction();
  onTestFinished(async () => {
    await rival.rollback();
    rival.release();
  });
  return rival;
}

test('notices of sixty orders at once are answered 204 each, and two transactions pay for all', async () => {
  const { saleId, orderNos } = await storeOrders(60);
  const { app, pages } = await openGathering(60);

  const replies = await Promise.all(sendAll(app, orderNos));

  expect(replies).toEqual(orderNos.map(() => 204));
  expect(pages.length).toBeLessThanOrEqual(2);
  expect(pages.reduce((sum, size) => sum + size)).toBe(60);
  await expectAllPaid(saleId, 60);
  await waitFor('Redis to follow', async () => {
    const [lamps] = (await api.stores.saleStock.read(saleId))?.skus ?? [];
    return lamps?.sold === 60;
  });
});

test('a notice whose order is locked waits alone, and the others of its page do not wait for it', async () => {
  const { saleId, orderNos } = await storeOrders(3);
  const { app } = await openGathering(3);
  const rival = await openRival();
  await rival.query('SELECT order_no FROM orders WHERE order_no = ? FOR UPDATE', [orderNos[0]]);

  const [locked, ...others] = sendAll(app, orderNos);

  expect(await Promise.all(others)).toEqual([204, 204]);
  expect((await api.stores.orders.read(orderNos[0] ?? ''))?.state.status).toBe('awaiting_payment');
  await rival.rollback();
  expect(await locked).toBe(204);
  await expectAllPaid(saleId, 3);
});

test('notices are received one by one when another holds a lock of their page for too long', async () => {
  const { saleId, orderNos } = await storeOrders(3);
  const { app, isOneByOne } = await openGathering(3);
  const rival = await openRival();
  await rival.query('SELECT held FROM skus WHERE sale_id = ? FOR UPDATE', [saleId]);

  const replies = sendAll(app, orderNos);
  await waitFor('the page to be given up', isOneByOne);
  await rival.rollback();

  expect(await Promise.all(replies)).toEqual([204, 204, 204]);
  await expectAllPaid(saleId, 3);
});

test('a page that meets a deadlock is repeated, and each of its notices is answered 204', async () => {
  const { saleId, orderNos } = await storeOrders(3);
  const { app, isOneByOne } = await openGathering(3);
  const rival = await openRival();
  // Much written: so the server picks the other one as the victim.
  const rows = Array.from({ length: 500 }, (_, i) => ['test', 'weigh', String(i), '']);
  await modify(rival, 'INSERT INTO audit_log (actor, action, subject, detail) VALUES ?', [rows]);
  await modify(rival, 'UPDATE skus SET position = 7 WHERE sale_id = ?', [saleId]);
  const replies = sendAll(app, orderNos);
  await waitForStatement(api.stores.pool, 'UPDATE skus SET held%');

  // The page has the orders and waits for the SKU; now the circle closes.
  await modify(rival, 'UPDATE orders SET expiring_due_at = NULL WHERE order_no IN (?)', [orderNos]);
  await rival.rollback();

  expect(await Promise.all(replies)).toEqual([204, 204, 204]);
  await expectAllPaid(saleId, 3);
  expect(isOneByOne()).toBe(false);
});

describe('two payments of one order', () => {
  const statusOf = async (orderNo: string) =>
    select(
      api.stores.pool,
      'SELECT provider_payment_id AS id, status FROM payments WHERE order_no = ? ORDER BY payment_id',
      [orderNo],
    );
  const applied = [
    { id: expect.stringMatching(/^first/), status: 'applied' },
    { id: expect.stringMatching(/^second/), status: 'refund_due' },
  ];
  const received = (orderNo: string, name: string) => {
    const payment = { providerPaymentId: `${name}-${orderNo}`, orderNo, amount: 4_900, currency: 'EUR' };
    const notice = buildNotice({ ...payment, signedOrder: null });
    return { notice, rawBody: JSON.stringify(notice) };
  };

  test('that come together are applied in the order of arrival, and their workflow is told once', async () => {
    const [orderNo = ''] = (await storeOrders(1)).orderNos;
    const told: string[] = [];
    const paid = ({ order }: StoredOrder) => void told.push(order.orderNo);
    const inbox = createNoticeInbox(api.stores, 'sandbox', { paid });

    await Promise.all([
      inbox.receive(received(orderNo, 'first')),
      inbox.receive(received(orderNo, 'second')),
    ]);
    await inbox.drain();

    expect(await statusOf(orderNo)).toEqual(applied);
    expect(told).toEqual([orderNo]);
  });

  test('are applied in the order of arrival, too, when the first is left to be received alone', async () => {
    const [orderNo = ''] = (await storeOrders(1)).orderNos;
    const { payments } = api.stores;
    let letGo = (): void => {};
    const gate = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const isFirst = (notice: PaymentNotice) =>
      notice.kind === 'payment_succeeded' && notice.payment.providerPaymentId.startsWith('first-');
    let second: Promise<unknown> = Promise.resolve();
    const stores: Stores = {
      ...api.stores,
      payments: {
        ...payments,
        async receivePage(provider, page) {
          if (!page.some(({ notice }) => isFirst(notice))) return payments.receivePage(provider, page);
          second = inbox.receive(received(orderNo, 'second'));
          // As while another transaction has the order.
          return new Map();
        },
        async receive(provider, notice, rawBody) {
          if (isFirst(notice)) await gate;
          return payments.receive(provider, notice, rawBody);
        },
      },
    };
    const inbox = createNoticeInbox(stores, 'sandbox', { paid: () => {} });

    const first = inbox.receive(received(orderNo, 'first'));
    // Another order's notice is received after the page that the second one would be in.
    await inbox.receive(received((await storeOrders(1)).orderNos[0] ?? '', 'another'));
    letGo();
    await Promise.all([first, second]);

    expect(await statusOf(orderNo)).toEqual(applied);
  });
});
