/** A sale's figures are what its stores count: each change of an order once. */

import { beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createMysqlPool, modify } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { PAID_WITHIN_SECONDS, STEP_SECONDS, STEPS } from '../../src/sales/figures.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { replaceMethod } from '../money/pausing-pool.ts';
import { dispatchEvents } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildPayment, buildReversal, pay, reverse } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const HOUR_S = 3_600;
/** All time that a point may have. */
const ALWAYS = [0, 4_000_000_000] as const;

const LAMP = { sku: 'lamp', quantity: 1, unitPrice: 4_900 };
const MUGS = { sku: 'mug', quantity: 2, unitPrice: 1_450 };

let stores: TestStores;
let saleId: string;
beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(async () => {
  const skus = [
    { sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000, limitPerUser: null },
    { sku: 'mug', name: 'Mug', unitPrice: 1_450, total: 1_000, limitPerUser: null },
  ];
  ({ saleId } = await stores.openSale(buildSale({ skus })));
});

async function readTotals() {
  const [totals] = await stores.saleFigures.readTotals([saleId]);
  if (!totals) throw new Error(`sale ${saleId} has no totals`);
  return totals;
}

const place = async (order: Partial<Order> = {}): Promise<Order> => {
  const placed = buildOrder({ saleId, ...order });
  await stores.orders.storeOrder(placed, 'due');
  return placed;
};

const cancel = ({ orderNo }: Order, reason: 'payment_timeout' | 'shopper_request') =>
  stores.orders.cancel(orderNo, reason, { force: true });

const age = ({ orderNo }: Order, seconds: number) =>
  modify(stores.pool, 'UPDATE orders SET reserved_at = reserved_at - INTERVAL ? SECOND WHERE order_no = ?', [
    seconds,
    orderNo,
  ]);

describe('a crowd that buys, pays, cancels and gets money back', () => {
  async function sell(): Promise<void> {
    const charges = [
      { code: 'shipping', name: 'Parcel', amount: 490 },
      { code: 'discount', name: 'Ten per cent off', amount: -780 },
    ];
    const mixed = await place({ items: [LAMP, MUGS], charges, total: 4_900 + 2_900 + 490 - 780 });
    const slow = await place();
    await age(slow, 100);
    const back = await place();
    await place({ total: 0, items: [{ ...LAMP, unitPrice: 0 }] });
    await place();
    await cancel(await place(), 'payment_timeout');
    await cancel(await place(), 'payment_timeout');
    await cancel(await place(), 'shopper_request');
    await stores.orders.abandon(buildOrder({ saleId }), 'store_unavailable');
    await pay(stores, mixed);
    await pay(stores, slow);
    const payment = buildPayment(back);
    await pay(stores, back, payment);
    await dispatchEvents(stores);
    await reverse(stores, buildReversal(payment, { amount: 1_000 }));
    await dispatchEvents(stores);
    await reverse(stores, buildReversal(payment, { amount: 3_900 }));
    await dispatchEvents(stores);
  }

  test('leaves the counts that the orders have', async () => {
    await sell();
    const totals = await readTotals();

    const counted = await selectOne(
      stores.pool,
      `SELECT COUNT(*) AS accepted, SUM(status = 'paid') AS paid, SUM(IF(status = 'paid', total, 0)) AS taken,
         SUM(refunded) AS refunded FROM orders WHERE sale_id = ?`,
      [saleId],
    );
    const { accepted, paid, taken, refunded } = totals;
    expect({ accepted, paid, taken, refunded }).toEqual(
      Object.fromEntries(Object.entries(counted).map(([name, count]) => [name, Number(count)])),
    );
    const ended = await select(
      stores.pool,
      `SELECT closing_reason AS reason, COUNT(*) AS orders FROM orders
       WHERE sale_id = ? AND status IN ('cancelled', 'failed') GROUP BY closing_reason`,
      [saleId],
    );
    expect(totals.endedUnpaid).toEqual(
      Object.fromEntries(ended.map(({ reason, orders }) => [String(reason), Number(orders)])),
    );
    expect(totals.endedUnpaid).toEqual({ payment_timeout: 2, shopper_request: 1, store_unavailable: 1 });
  });

  test('has its money by SKU and by charge, which are all of it', async () => {
    await sell();
    const { skus, charges, taken } = await readTotals();
    expect(skus).toEqual({ lamp: 3 * 4_900, mug: 2_900 });
    expect(charges).toEqual({ shipping: 490, discount: -780 });
    const parts = [...Object.values(skus), ...Object.values(charges)];
    expect(parts.reduce((sum, amount) => sum + amount, 0)).toBe(taken);
  });

  test('has each paid order by how long its payment took, and no free one', async () => {
    await sell();
    const { paidWithin } = await readTotals();
    const bounds: readonly number[] = PAID_WITHIN_SECONDS;
    const slowOnes = paidWithin.slice(bounds.indexOf(120));
    expect([paidWithin.reduce((sum, orders) => sum + orders, 0), slowOnes[0]]).toEqual([3, 1]);
  });

  test.each(STEPS)('adds up the same by %s', async (step) => {
    await sell();
    const points = await stores.saleFigures.readPoints(saleId, step, ...ALWAYS);
    const { accepted, paid, endedUnpaid } = await readTotals();
    expect(points.every(({ beginsS }) => beginsS % STEP_SECONDS[step] === 0)).toBe(true);
    expect(points.reduce((sum, point) => sum + point.accepted, 0)).toBe(accepted);
    expect(points.reduce((sum, point) => sum + point.paid, 0)).toBe(paid);
    const timedOut = points.reduce((sum, point) => sum + (point.endedUnpaid['payment_timeout'] ?? 0), 0);
    expect(timedOut).toBe(endedUnpaid['payment_timeout']);
  });
});

test('an order counts as accepted when it was, however late it is stored', async () => {
  const reservedAtMs = Date.now() - 10 * HOUR_S * 1_000;
  await place({ reservedAtMs });
  await dispatchEvents(stores);
  const atS = Math.floor(reservedAtMs / 1_000);
  const points = await stores.saleFigures.readPoints(saleId, 'second', atS, atS + 1);
  expect(points).toEqual([{ beginsS: atS, accepted: 1, paid: 0, endedUnpaid: {} }]);
});

test('a dispatcher that dies before its commit has counted nothing, and the next one counts each change once', async () => {
  await pay(stores, await place());
  const pool = createMysqlPool(stores.config.MYSQL_URL);
  onTestFinished(() => pool.end().catch(() => {}));
  let hasCounted = false;
  const dying = replaceMethod(pool, 'getConnection', async () => {
    const connection = await pool.getConnection();
    return replaceMethod(connection, 'query', (_, query, args) => {
      hasCounted ||= String(args[0]).startsWith('INSERT INTO sale_figures');
      if (String(args[0]).startsWith('UPDATE event_dispatch')) connection.destroy();
      return query(...args);
    });
  });
  await expect(mysqlStores(dying).eventRows.numberEvents(1_000)).rejects.toThrow();
  expect(hasCounted).toBe(true);
  expect(await readTotals()).toMatchObject({ accepted: 0, paid: 0 });

  await dispatchEvents(stores);
  await dispatchEvents(stores);
  expect(await readTotals()).toMatchObject({ accepted: 1, paid: 1, taken: 4_900 });
});

test('dispatchers that number at once count each change once', async () => {
  const orders = Array.from({ length: 40 }, () => buildOrder({ saleId }));
  await stores.orders.storeOrders(orders, 'due');
  const numberAll = async () => {
    for (let pages = 0; pages < 20; pages += 1) await stores.eventRows.numberEvents(7);
  };
  await Promise.all([numberAll(), numberAll(), numberAll()]);
  await dispatchEvents(stores);
  expect((await readTotals()).accepted).toBe(40);
});

test('the figures of one sale have nothing of another', async () => {
  const other = await stores.openSale(buildSale());
  await place();
  await stores.orders.storeOrder(buildOrder({ saleId: other.saleId }), 'due');
  await dispatchEvents(stores);
  const totals = await stores.saleFigures.readTotals([saleId, other.saleId]);
  expect(totals.map(({ accepted }) => accepted)).toEqual([1, 1]);
});

test('charges that a hand has damaged keep no event from being counted', async () => {
  const order = await place();
  await pay(stores, order);
  await modify(stores.pool, `UPDATE orders SET charges = '[{' WHERE order_no = ?`, [order.orderNo]);
  await dispatchEvents(stores);
  expect(await readTotals()).toMatchObject({ paid: 1, charges: {} });
});

test('changes count as complete up to the first that waits for its number', async () => {
  await dispatchEvents(stores);
  const { orderNo } = await place();
  await modify(
    stores.pool,
    'UPDATE order_events SET occurred_at = occurred_at - INTERVAL 1 HOUR WHERE order_no = ?',
    [orderNo],
  );
  const behind = await stores.saleFigures.readComplete(saleId);
  expect(Math.round((behind.nowMs - behind.countedUntilMs) / 60_000)).toBe(60);
  await dispatchEvents(stores);
  const { nowMs, countedUntilMs } = await stores.saleFigures.readComplete(saleId);
  expect(countedUntilMs).toBe(nowMs);
});
