/** Leases last as long as they are to by MySQL's clock, whatever the clock of the process says. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createMysqlPool, modify, type Pool } from '../../src/mysql/connection.ts';
import type { Order } from '../../src/orders/content.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { createMoneyWorld } from '../money/money-world.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** MySQL's clock, as far as this process is off it. */
describe.each([120, -120])('where MySQL is %i s ahead of the process', (aheadSeconds) => {
  let pool: Pool;
  beforeAll(() => {
    pool = createMysqlPool(stores.config.MYSQL_URL);
    const nowSeconds = Date.now() / 1_000 + aheadSeconds;
    // Of these sessions it stands still at that moment: what has run out by it was wrong from the beginning.
    pool.pool.on('connection', (connection) => {
      connection.query(`SET timestamp = ${nowSeconds}`);
    });
  });
  afterAll(() => pool.end());

  const secondsLeft = async (column: string, condition: string, value: unknown) =>
    Number(
      (
        await selectOne(
          pool,
          `SELECT TIMESTAMPDIFF(MICROSECOND, NOW(3), ${column}) / 1000000 AS seconds FROM ${condition} = ?`,
          [value],
        )
      )['seconds'],
    );

  async function newOrder(overrides: Partial<Order> = {}): Promise<Order> {
    const { saleId } = await stores.openSale(buildSale());
    return buildOrder({ saleId, ...overrides });
  }

  test('an order that is due is claimed once, for as long as a claim lasts', async () => {
    const order = await newOrder();
    const [orders, claims] = [mysqlStores(pool).orders, mysqlStores(pool).orderClaims];
    await orders.storeOrders([order], 'due');
    expect((await claims.take(10)).map((claimed) => claimed.order.orderNo)).toEqual([order.orderNo]);
    expect(await claims.take(10)).toEqual([]);
    expect(await secondsLeft('engine_due_at', 'orders WHERE order_no', order.orderNo)).toBe(30);
  });

  test('an order that a relay stores to start it at once is no other relay’s meanwhile', async () => {
    const order = await newOrder();
    await mysqlStores(pool).orders.storeOrders([order], 'claimed');
    expect(await mysqlStores(pool).orderClaims.take(10)).toEqual([]);
    expect(await secondsLeft('engine_due_at', 'orders WHERE order_no', order.orderNo)).toBe(30);
  });

  test('an order with a wish to cancel is left to the API for its moment, and due after that', async () => {
    const order = await newOrder();
    const { orders } = mysqlStores(pool);
    await orders.storeOrders([order], 'started');
    await orders.requestCancel(order.orderNo);
    expect(await secondsLeft('engine_due_at', 'orders WHERE order_no', order.orderNo)).toBe(2);
  });

  test('a refund that is due is claimed once, for as long as a claim lasts', async () => {
    const world = createMoneyWorld(stores);
    await world.settleDue();
    const order = await world.storedOrder();
    await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: false });
    const { payment } = await world.withMoney(order);
    const paymentId = await world.idOf(payment);
    await modify(pool, 'UPDATE payments SET engine_due_at = NOW(3) WHERE payment_id = ?', [paymentId]);
    const claims = mysqlStores(pool).refundClaims;
    const claimed = await claims.take(10);
    expect(claimed).toMatchObject([{ paymentId }]);
    expect(await claims.take(10)).toEqual([]);
    expect(await secondsLeft('engine_due_at', 'payments WHERE payment_id', paymentId)).toBe(30);
    await claims.complete(claimed);
    expect(
      await selectOne(pool, 'SELECT engine_due_at FROM payments WHERE payment_id = ?', [paymentId]),
    ).toEqual({ engine_due_at: null });
  });

  test('a delivery is due at once, and claimed once, for as long as a claim lasts', async () => {
    const name = `office-${aheadSeconds + 200}`;
    const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
    const put = await mysqlStores(pool).endpoints.put(name, terms, createSecret(), 'ada');
    if (put.kind === 'full') throw new Error('there are too many endpoints');
    const { endpointId, fedSequence } = put.endpoint;
    const event = { eventId: 'one', sequence: fedSequence + 1, line: 'sale' };
    await mysqlStores(pool).endpoints.advance(endpointId, { from: fedSequence, to: fedSequence + 1 }, [
      event,
    ]);
    const claims = mysqlStores(pool).deliveries;
    expect((await claims.take(endpointId))?.deliveries).toMatchObject([{ eventId: 'one', isDue: true }]);
    expect((await claims.take(endpointId))?.deliveries).toEqual([]);
    expect(await secondsLeft('claimed_until', 'push_deliveries WHERE endpoint_id', endpointId)).toBe(60);
  });

  test('a former secret signs for three days', async () => {
    const name = `rotated-${aheadSeconds + 200}`;
    const { endpoints } = mysqlStores(pool);
    const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
    await endpoints.put(name, terms, createSecret(), 'ada');
    await endpoints.rotateSecret(name, createSecret(), 'ada');
    expect(await secondsLeft('former_until', 'push_endpoints WHERE name', name)).toBe(72 * 3_600);
  });

  test('an order can be paid as long as one of the two clocks says so', async () => {
    // By one of them it ended a minute ago, and by the other it has a minute left.
    const endsInMs = (aheadSeconds > 0 ? aheadSeconds - 60 : aheadSeconds + 60) * 1_000;
    const order = await newOrder({ reservedAtMs: Date.now() + endsInMs - 60_000, paymentWindowMs: 60_000 });
    await stores.orders.storeOrders([order], 'started');
    const begun = await mysqlStores(pool).paymentSessions.begin(
      'sandbox',
      order.orderNo,
      async () => 'signed',
    );
    expect(begun.kind).toBe('begun');
  });
});
