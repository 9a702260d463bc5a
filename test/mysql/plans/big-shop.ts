/**
 * A shop with a hundred thousand orders: a few are made by the product's own code, and their rows are copied
 * in all tables. So the copies are what the product writes.
 */

import { z } from 'zod';
import { modify, selectRows, type Pool } from '../../../src/mysql/connection.ts';
import type { Order } from '../../../src/orders/content.ts';
import { buildOrder, buildSale, uniqueSaleId } from '../../support/factories.ts';
import { buildPayment, buildReversal, pay, reverse, sign } from '../../support/payment-notices.ts';
import type { TestStores } from '../../support/stores.ts';

/** How an order of each kind comes to be, and how many there are. */
const KINDS: Record<string, { count: number; make: (stores: TestStores, order: Order) => Promise<unknown> }> =
  {
    paid: { count: 60_000, make: makePaid },
    cancelled: { count: 24_000, make: makeCancelled },
    refunded: { count: 2_000, make: makeRefunded },
    refundDue: { count: 200, make: makeRefundDue },
    open: { count: 5_000, make: (stores, order) => stores.orders.storeOrder(order, 'started') },
    due: { count: 2_000, make: (stores, order) => stores.orders.storeOrder(order, 'due') },
    untold: { count: 3_000, make: makeUntold },
    unended: { count: 1_000, make: makeUnended },
    closing: { count: 2_000, make: makeClosing },
    failed: { count: 7_000, make: makeFailed },
    unmatched: { count: 100, make: (stores, order) => pay(stores, order) },
  };

const columnRow = z.object({ table_name: z.string(), column_name: z.string() });

/** Columns that are unique, and what a copy has in them. Ids of fixed width are shortened. */
const OWN: Record<string, string> = {
  order_no: `CONCAT(LEFT(t.order_no, CHAR_LENGTH(t.order_no) - 8), LPAD(n.i, 8, '0'))`,
  user_id: `CONCAT(t.user_id, '-', n.i)`,
  idempotency_key: `CONCAT(t.idempotency_key, n.i)`,
  session_id: `CONCAT(LEFT(t.session_id, 18), LPAD(n.i, 8, '0'))`,
  provider_session_id: `CONCAT(t.provider_session_id, n.i)`,
  provider_event_id: `CONCAT(t.provider_event_id, n.i)`,
  provider_payment_id: `CONCAT(t.provider_payment_id, n.i)`,
  provider_reversal_id: `CONCAT(t.provider_reversal_id, n.i)`,
  // One after the other, as they came in.
  reserved_at: 't.reserved_at - INTERVAL n.i * 100000 MICROSECOND',
  deadline: 't.deadline - INTERVAL n.i * 100000 MICROSECOND',
  received_at: 't.received_at - INTERVAL n.i * 100000 MICROSECOND',
};

/** An order of each kind, by the kind's name. */
export type BigShop = Record<string, Order>;

export async function fillShop(stores: TestStores): Promise<BigShop> {
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 1_000_000, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ saleId: `${uniqueSaleId()}-2`, skus }));
  const tables = await readTables(stores.pool);
  const made: BigShop = {};
  for (const [kind, { count, make }] of Object.entries(KINDS)) {
    const order = buildOrder({ saleId, userId: kind });
    await make(stores, order);
    await copy(stores.pool, tables, order, count);
    made[kind] = order;
  }
  await fillParked(stores.pool);
  await fillAuditLog(stores.pool);
  // All has waited for longer than any grace.
  await modify(stores.pool, 'UPDATE orders SET engine_due_at = engine_due_at - INTERVAL 1 MINUTE');
  await modify(
    stores.pool,
    `UPDATE payments SET received_at = received_at - INTERVAL 1 HOUR WHERE status = 'received'`,
  );
  for (const table of [...tables.keys(), 'parked', 'audit_log'])
    await stores.pool.query(`ANALYZE TABLE ${table}`);
  return made;
}

async function makePaid(stores: TestStores, order: Order): Promise<void> {
  await stores.orders.storeOrder(order, 'started');
  const begun = await stores.paymentSessions.begin('sandbox', order.orderNo, sign);
  if (begun.kind !== 'begun') throw new Error(begun.kind);
  await stores.paymentSessions.recordOpened(begun.session.sessionId, {
    providerSessionId: 'session',
    url: 'http://localhost/',
    expiresAtMs: null,
  });
  await pay(stores, order);
  await follow(stores, order);
}

/** Redis has its end, and so has its workflow. */
const follow = (stores: TestStores, { orderNo }: Order) => stores.endings.completeFollow([orderNo], true);

async function makeCancelled(stores: TestStores, { orderNo, ...order }: Order): Promise<void> {
  await stores.orders.storeOrder({ orderNo, ...order }, 'started');
  await stores.orders.cancel(orderNo, 'payment_timeout', { force: true });
  await follow(stores, { orderNo, ...order });
}

async function makeFailed(stores: TestStores, order: Order): Promise<void> {
  await stores.orders.abandon(order, 'store_unavailable');
  await follow(stores, order);
}

/** It was paid, and neither Redis nor its workflow has followed. */
async function makeUntold(stores: TestStores, order: Order): Promise<void> {
  await stores.orders.storeOrder(order, 'started');
  await pay(stores, order);
}

/** It ended without a workflow, and one may have begun. */
async function makeUnended(stores: TestStores, order: Order): Promise<void> {
  await stores.orders.storeOrder(order, 'claimed');
  await stores.endings.endOne(order.orderNo, { force: false });
}

async function makeClosing(stores: TestStores, order: Order): Promise<void> {
  await stores.orders.storeOrder(order, 'due');
  await stores.orders.requestCancel(order.orderNo);
}

async function makeRefundDue(stores: TestStores, order: Order): Promise<void> {
  await makeCancelled(stores, order);
  await pay(stores, order);
}

async function makeRefunded(stores: TestStores, order: Order): Promise<void> {
  await makeCancelled(stores, order);
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  await reverse(stores, buildReversal(payment));
}

/** The columns of each table that has rows of an order or a payment, but for those that MySQL fills. */
async function readTables(pool: Pool): Promise<Map<string, string[]>> {
  const rows = await selectRows(
    pool,
    columnRow,
    `SELECT table_name AS table_name, column_name AS column_name FROM information_schema.columns
     WHERE table_schema = DATABASE() AND extra NOT LIKE '%auto_increment%' ORDER BY table_name`,
  );
  const tables = new Map<string, string[]>();
  for (const { table_name: table, column_name: column } of rows)
    tables.set(table, [...(tables.get(table) ?? []), column]);
  return new Map(
    [...tables].filter(([, columns]) =>
      columns.some((name) => /^(order_no|provider_payment_id)$/.test(name)),
    ),
  );
}

const DIGITS = `(${Array.from({ length: 10 }, (_, digit) => `SELECT ${digit} AS d`).join(' UNION ALL ')})`;
/** The numbers below 100,000. */
const NUMBERS = `(SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i
  FROM ${DIGITS} a, ${DIGITS} b, ${DIGITS} c, ${DIGITS} e, ${DIGITS} f)`;

async function copy(
  pool: Pool,
  tables: ReadonlyMap<string, string[]>,
  { orderNo }: Order,
  count: number,
): Promise<void> {
  const ofOrder = 't.order_no = ?';
  const ofPayment = `t.provider_payment_id IN
    (SELECT provider_payment_id FROM payments WHERE order_no = ?) AND n.i < ?`;
  for (const [table, columns] of tables) {
    const values = columns.map((column) => OWN[column] ?? `t.${column}`);
    await pool.query(
      `INSERT INTO ${table} (${columns.join(', ')}) SELECT ${values.join(', ')} FROM ${table} t
       CROSS JOIN ${NUMBERS} n
       WHERE ${columns.includes('order_no') ? `${ofOrder} AND n.i < ?` : ofPayment}`,
      [orderNo, count],
    );
  }
}

/** Parked work of a long time, all of it settled. */
async function fillParked(pool: Pool): Promise<void> {
  await modify(
    pool,
    `INSERT INTO parked (kind, reference, reason, parked_at, resolved_at)
     SELECT 'order', CONCAT('order-', n.i), 'for the test', NOW(3), NOW(3) FROM ${NUMBERS} n WHERE n.i < 20000`,
  );
}

/** Decisions of a long time: half of them are of one actor, and half of them about one subject. */
async function fillAuditLog(pool: Pool): Promise<void> {
  await modify(
    pool,
    `INSERT INTO audit_log (actor, action, subject, detail, occurred_at)
     SELECT IF(n.i % 2, 'busy', 'other'), 'sale_changed', IF(n.i % 3, 'busy', 'other'), '{}',
       NOW(3) - INTERVAL n.i SECOND FROM ${NUMBERS} n WHERE n.i < 20000`,
  );
}
