/**
 * Every statement that runs in a loop or for a request, on a hundred thousand orders: it reads about as many
 * rows as it returns or changes, whatever the shop has sold before.
 */

import { beforeAll, expect, test } from 'vitest';
import { readMysqlSale } from '../../../src/audit/reads.sql.ts';
import { MAX_EVENTS_PAGE_BYTES } from '../../../src/events/feed.ts';
import { readSettlement } from '../../../src/money/settlement.sql.ts';
import { modify } from '../../../src/mysql/connection.ts';
import { readDoubtLeftMs, recordDoubt } from '../../../src/orders/rows.sql.ts';
import { type SaleCursor } from '../../../src/sales/news.sql.ts';
import { mysqlStores } from '../../../src/stores/bound.ts';
import { confirmRedis, readDeployment } from '../../../src/stores/deployment.sql.ts';
import { dispatchEvents } from '../../support/events.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { buildNotice, buildPayment, buildReversal, reverse, sign } from '../../support/payment-notices.ts';
import { selectOne } from '../../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../../support/stores.ts';
import { fillShop, type BigShop } from './big-shop.ts';
import { measuredPool, type Measured } from './measured-pool.ts';

/** Rows that a statement about one order may read: its own, a few around them, and MySQL's dictionary. */
const ONE = 80;
/** For each row of a batch: it is found, read, and changed in an index or two. */
const PER_ROW = 4;
/** Movements of all orders of the sale. */
const WHOLE_LEDGER = 200_000;

const AGO = [new Date(Date.UTC(2026, 0, 1)), new Date(Date.UTC(2026, 0, 2))] as const;

let stores: TestStores;
let shop: BigShop;
beforeAll(async () => {
  stores = await openTestStores();
  shop = await fillShop(stores);
}, 240_000);

function measuredStores(seen: (measured: Measured) => void) {
  const pool = measuredPool(stores.pool, seen);
  return {
    ...mysqlStores(pool),
    deployment: {
      read: () => readDeployment(pool),
      confirm: (asOf: Date) => confirmRedis(pool, 'a Redis', asOf),
    },
    // A look has a moment, and the measuring is a part of it here.
    projectionDoubts: {
      readLeftMs: () => readDoubtLeftMs(pool, 60_000),
      record: (forMs: number) => recordDoubt(pool, forMs),
    },
    settlement: (saleId: string) => readSettlement(pool, saleId),
    audited: (saleId: string) => readMysqlSale(pool, saleId),
  };
}

type Call = (stores: ReturnType<typeof measuredStores>) => Promise<unknown>;

const orderOf = (kind: string) => shop[kind] ?? buildOrder();
const noOf = (kind: string) => orderOf(kind).orderNo;

async function paymentIdsOf(kind: string): Promise<{ paymentId: number; providerPaymentId: string }> {
  const sql = 'SELECT payment_id, provider_payment_id FROM payments WHERE order_no = ?';
  const row = await selectOne(stores.pool, sql, [noOf(kind)]);
  return { paymentId: Number(row['payment_id']), providerPaymentId: String(row['provider_payment_id']) };
}

const idOf = async (kind: string): Promise<number> => (await paymentIdsOf(kind)).paymentId;

const DECISION = { actor: 'ada', reason: 'for the test' };
const FAILING = { cause: 'step_failing', step: null } as const;

const newOrders = (count: number) => {
  const { saleId } = orderOf('paid');
  return Array.from({ length: count }, (_, i) => buildOrder({ saleId, userId: `new-${i}` }));
};

/** In loops of relay, reconciliation and rebuild. With the rows that each statement may read. */
const LOOPS: Record<string, [limit: number, call: Call]> = {
  // Of some 200,000 that wait, a page is numbered, and read as a consumer reads it.
  'events: number and read a page': [
    1_000 * PER_ROW,
    async ({ eventRows }) => {
      const { pool } = stores;
      await pool.query('UPDATE order_events SET sequence = NULL');
      await pool.query('UPDATE event_dispatch SET last_sequence = 0');
      expect(await eventRows.numberEvents(1_000)).toMatchObject({ kind: 'numbered', events: 1_000 });
      const upTo = await eventRows.readLastSequence();
      const range = { after: upTo - 500, upTo, max: 500, maxBytes: MAX_EVENTS_PAGE_BYTES };
      const { rows } = await eventRows.list(range);
      expect(rows).toHaveLength(500);
      await eventRows.readOrders(rows.flatMap((row) => (row.kind === 'order' ? [row.orderNo] : [])));
      expect(await eventRows.listStates(upTo - 500, 500, 0)).toHaveLength(500);
    },
  ],
  // Of all orders of the sale, counted before: what the answer has, and where the first uncounted ones are.
  'saleFigures: what a console reads': [
    1_440,
    async ({ saleFigures }) => {
      const { saleId } = orderOf('paid');
      await dispatchEvents(stores);
      const [totals] = await saleFigures.readTotals([saleId]);
      expect(totals?.accepted).toBeGreaterThan(100_000);
      await saleFigures.readComplete(saleId);
      const nowS = Math.floor(Date.now() / 1_000);
      await saleFigures.readPoints(saleId, 'minute', nowS - 60 * 60, nowS + 60);
    },
  ],
  // Each row once more, where they are sorted into their groups.
  'events: count a page of changes': [
    1_000 * (PER_ROW + 2),
    async ({ eventRows }) => {
      const upTo = await eventRows.readLastSequence();
      expect(await eventRows.countChanges(upTo - 1_000, upTo, [1_000])).not.toHaveLength(0);
    },
  ],
  'deployment: read the record, and confirm its Redis': [
    ONE,
    async ({ deployment }) => {
      await deployment.read();
      await deployment.confirm(new Date());
    },
  ],
  // They count up to their bound.
  'status: what waits, and what is parked': [
    3 * 10_000,
    async ({ mysqlStatus }) => {
      await mysqlStatus.readBacklog();
      await mysqlStatus.readParked();
      await mysqlStatus.listWorkers();
    },
  ],
  // It counts in a temporary table, up to its bound.
  'events: count what waits': [4 * 10_000, ({ eventRows }) => eventRows.countWaiting(10_000)],
  'sales: what relays are to follow, beside 2,000 that Redis has no more': [
    ONE,
    async ({ sales }) => {
      const cleaned = Array.from({ length: 2_000 }, (_, i) => {
        const ended = [AGO[0], AGO[1], AGO[1]];
        return [`c-${i}`, 'S', 'EUR', ...AGO, 1_000, ...ended];
      });
      await stores.pool.query(
        `INSERT INTO sales (sale_id, name, currency, opens_at, closes_at, payment_window_ms, warmed_up_at, settled_at,
           redis_cleaned_at) VALUES ?`,
        [cleaned],
      );
      await stores.pool.query('ANALYZE TABLE sales');
      expect(await sales.listInRedis('')).toHaveLength(1);
      await stores.pool.query(`DELETE FROM sales WHERE sale_id LIKE 'c-%'`);
      await stores.pool.query('ANALYZE TABLE sales');
    },
  ],
  'saleNews, saleChanges: what the keeper of the sales reads, beside thousands that it need not see': [
    ONE,
    async ({ saleNews, saleChanges }) => {
      const columns =
        'sale_id, name, currency, opens_at, closes_at, payment_window_ms, settled_at, draft, warmed_up_at, closed_at';
      const later = new Date(Date.now() + 86_400_000);
      const make = (kind: string, ...states: unknown[]) =>
        Array.from({ length: 2_000 }, (_, i) => [
          `${kind}-${i}`,
          'S',
          'EUR',
          AGO[0],
          later,
          1_000,
          ...states,
        ]);
      const rows = [
        ...make('settled', AGO[0], false, AGO[0], AGO[0]),
        ...make('draft', null, true, null, null),
        ...make('closed', null, false, AGO[0], AGO[1]),
      ];
      await stores.pool.query(`INSERT INTO sales (${columns}) VALUES ?`, [rows]);
      await stores.pool.query(
        `UPDATE sales SET opens_at = NOW(3) + INTERVAL 1 DAY, closes_at = NOW(3) + INTERVAL 2 DAY
         WHERE sale_id LIKE 'draft-1%'`,
      );
      await stores.pool.query('ANALYZE TABLE sales');
      expect((await saleNews.listToWarmUp(60_000)).sales).toEqual([]);
      expect((await saleNews.listOn(60_000)).sales).toHaveLength(1);
      await saleChanges.listPending();
      // The other statements are measured with the one sale.
      await stores.pool.query(`DELETE FROM sales WHERE sale_id RLIKE '^(settled|draft|closed)-'`);
      await stores.pool.query('ANALYZE TABLE sales');
    },
  ],
  'saleNews: a page of thousands of sales, the next one, and the last': [
    50 * PER_ROW,
    async ({ saleNews }) => {
      const insert = `INSERT INTO sales (sale_id, name, currency, opens_at, closes_at, payment_window_ms, closed_at) VALUES ?`;
      const later = new Date(Date.now() + 86_400_000);
      const make = (kind: string, closedAt: Date | null) =>
        Array.from({ length: 2_000 }, (_, i) => [`${kind}-${i}`, 'S', 'EUR', AGO[0], later, 1_000, closedAt]);
      await stores.pool.query(insert, [[...make('on', null), ...make('closed', AGO[1])]]);
      await stores.pool.query('ANALYZE TABLE sales');
      for (const list of [
        (after?: SaleCursor) => saleNews.listToWarmUp(60_000, after),
        (after?: SaleCursor) => saleNews.listOn(60_000, after),
        (after?: SaleCursor) => saleNews.listClosed(after),
      ]) {
        const first = await list();
        const second = await list(first.next);
        expect(second.sales).toHaveLength(first.sales.length);
        await list({ saleId: 'on-999', at: AGO[1] });
      }
      await stores.pool.query(`DELETE FROM sales WHERE sale_id RLIKE '^(on|closed)-'`);
      await stores.pool.query('ANALYZE TABLE sales');
    },
  ],
  'orderClaims: take, complete, release': [
    50 * PER_ROW,
    async ({ orderClaims }) => {
      // Of each rank in turn: those before it are put off for a day.
      for (const rank of ["status = 'paid'", "status = 'cancelled'", 'closing_reason IS NOT NULL', 'TRUE']) {
        const claimed = await orderClaims.take(50, 50);
        expect(claimed).toHaveLength(50);
        await orderClaims.complete(claimed.slice(0, 25));
        await orderClaims.release(claimed.slice(25), claimed.slice(40));
        await stores.pool.query(
          `UPDATE orders SET engine_due_at = engine_due_at + INTERVAL 1 DAY
           WHERE engine_due_at IS NOT NULL AND ${rank}`,
        );
      }
    },
  ],
  'orderClaims.listOpen, requeue': [
    500 * PER_ROW,
    async ({ orderClaims }) => {
      const first = await orderClaims.listOpen(undefined, 500);
      const next = await orderClaims.listOpen(first.at(-1), 500);
      await orderClaims.requeue(next.slice(0, 10).map(({ orderNo }) => orderNo));
    },
  ],
  // Of what is parked, all that waits for an operator is read.
  'orderClaims: parkStuck, unparkEnded': [
    500 * PER_ROW,
    async ({ orderClaims }) => {
      const { orderNo } = orderOf('open');
      await stores.pool.query('UPDATE orders SET deadline = ? WHERE order_no = ?', [AGO[0], orderNo]);
      await orderClaims.parkStuck(orderNo);
      await orderClaims.unparkEnded(100);
    },
  ],
  // Of a thousand that are due; beside them orders of which the shop was told, or is to be later.
  'deadlines: announce a page of those that are near, and extend one': [
    500 * PER_ROW,
    async ({ deadlines }) => {
      const { pool } = stores;
      await pool.query('UPDATE orders SET expiring_due_at = ? WHERE user_id LIKE ?', [AGO[0], 'due-1%']);
      await pool.query('UPDATE orders SET expiring_due_at = NOW(3) + INTERVAL 1 DAY WHERE user_id LIKE ?', [
        'paid-%',
      ]);
      await pool.query('ANALYZE TABLE orders');
      expect(await deadlines.announceExpiring(500, silent)).toBe(500);
      const { orderNo } = orderOf('open');
      await deadlines.extend(orderNo, Date.now() + 1_000, { actor: 'olga', reason: null });
      await pool.query('UPDATE orders SET expiring_due_at = NULL');
    },
  ],
  // Of a thousand that are past their deadline; beside them orders that wait for timers or have time.
  'endings: end two pages, and what is left of them': [
    500 * PER_ROW,
    async ({ endings }) => {
      const { pool } = stores;
      const late = `user_id LIKE 'due-1%' AND workflow_started_at IS NULL AND status = 'awaiting_payment'`;
      await pool.query(`UPDATE orders SET engine_due_at = ?, deadline = ? WHERE ${late}`, [AGO[0], AGO[0]]);
      // The copies of an order are in no counter.
      await pool.query('UPDATE skus SET held = held + 10000 WHERE sale_id = ?', [orderOf('due').saleId]);
      await pool.query('ANALYZE TABLE orders');
      const nowMs = AGO[1].getTime();
      const first = await endings.endPage(nowMs, 500);
      expect(first.changed).toHaveLength(500);
      await endings.completeFollow(
        first.changed.slice(0, 250).map(({ orderNo }) => orderNo),
        false,
      );
      // With those that have been paid they are some thousands.
      await pool.query('UPDATE orders SET end_due_at = ? WHERE end_due_at IS NOT NULL', [AGO[0]]);
      expect(await endings.takeEnded(500)).toHaveLength(500);
      await pool.query(
        `INSERT INTO payment_sessions (session_id, order_no, provider, amount, currency, status, expires_at)
         SELECT LEFT(SHA2(order_no, 256), 26), order_no, 'sandbox', 1, 'EUR', 'open', NOW(3) FROM orders
         WHERE ${late} ORDER BY order_no LIMIT 20`,
      );
      const { changed } = await endings.endPage(nowMs, 500);
      expect(changed.filter(({ state }) => state.status === 'awaiting_payment')).toHaveLength(20);
      const closing = await endings.takeClosing(20);
      expect(closing).toHaveLength(20);
      for (const { orderNo } of closing.slice(1)) await endings.endOne(orderNo, { force: true });
      await endings.putOff(closing[0]?.orderNo ?? '', 1_000);
    },
  ],
  'orderClaims.take, where hundreds are left to end without a workflow': [
    2_000 * PER_ROW,
    async ({ orderClaims }) => {
      const left = `user_id LIKE 'due-%' AND workflow_started_at IS NULL AND status = 'awaiting_payment'
        AND closing_reason IS NULL`;
      await stores.pool.query(`UPDATE orders SET engine_due_at = ?, reserved_at = ? WHERE ${left}`, [
        AGO[0],
        AGO[0],
      ]);
      await orderClaims.take(50, 50, AGO[1].getTime());
      const count = `SELECT COUNT(*) AS orders, COUNT(engine_due_at) AS due FROM orders WHERE ${left}`;
      const { orders, due } = await selectOne(stores.pool, count);
      expect(orders).toBeGreaterThan(500);
      expect(due).toBe(0);
    },
  ],
  'refundClaims: take, complete, release': [
    10 * PER_ROW,
    async ({ refundClaims }) => {
      const claimed = await refundClaims.take(10);
      expect(claimed).toHaveLength(10);
      await refundClaims.complete(claimed.slice(0, 5));
      await refundClaims.release(claimed.slice(5), claimed.slice(8));
    },
  ],
  'refundClaims.listOpen, requeue': [
    500 * PER_ROW,
    async ({ refundClaims }) => {
      const open = await refundClaims.listOpen(undefined, 500);
      await refundClaims.requeue(open.slice(0, 10).map(({ paymentId }) => paymentId));
    },
  ],
  'returnedUnits: list, read, requeue': [
    500 * PER_ROW,
    async ({ returnedUnits }) => {
      await stores.pool.query(
        `INSERT INTO refunds (order_no, payment_id, amount, target, items, restock, restores_limit, actor, status)
         SELECT order_no, payment_id, 1, 1, '[]', TRUE, TRUE, 'ada', 'succeeded' FROM payments LIMIT 20000`,
      );
      await stores.pool.query('ANALYZE TABLE refunds');
      const parts = await returnedUnits.list({ refundId: 10_000 }, 500);
      expect(parts).toHaveLength(500);
      const returning = await returnedUnits.read(parts.map(({ paymentId }) => paymentId));
      expect(returning).not.toHaveLength(0);
      await returnedUnits.requeue(returning[0]?.paymentId ?? 0);
    },
  ],
  'unmatchedPayments: list, park, refund': [
    // Each that is received with its order and what is parked of it, in a temporary table that is sorted.
    100 * (PER_ROW + 3),
    async ({ unmatchedPayments }) => {
      const [first, second] = await unmatchedPayments.list(200);
      await unmatchedPayments.park(first?.providerPaymentId ?? '', 'for the test', 'undecided');
      await unmatchedPayments.refund(second?.paymentId ?? 0, 'order_unknown');
    },
  ],
  'payments: readReversalTotals of a portion, recordFees': [
    500 * PER_ROW,
    async ({ payments }) => {
      const { providerPaymentId } = await paymentIdsOf('paid');
      const ids = [...Array.from({ length: 499 }, (_, i) => `${providerPaymentId}${i}`), providerPaymentId];
      expect((await payments.readReversalTotals('sandbox', ids)).size).toBe(500);
      await payments.recordFees('sandbox', new Map(ids.map((id) => [id, 74])));
    },
  ],
  'sales.listUnsettled, beside thousands that are settled, drafts, or to come': [
    ONE,
    async ({ sales }) => {
      const later = new Date(Date.now() + 86_400_000);
      const columns =
        'sale_id, name, currency, opens_at, closes_at, payment_window_ms, settled_at, draft, warmed_up_at, closed_at';
      const make = (kind: string, opensAt: Date, ...states: unknown[]) =>
        Array.from({ length: 2_000 }, (_, i) => [
          `${kind}-${i}`,
          'S',
          'EUR',
          opensAt,
          later,
          1_000,
          ...states,
        ]);
      const rows = [
        ...make('settled', AGO[0], AGO[0], false, AGO[0], AGO[0]),
        ...make('draft', AGO[0], null, true, null, null),
        ...make('later', later, null, false, null, null),
      ];
      await stores.pool.query(`INSERT INTO sales (${columns}) VALUES ?`, [rows]);
      await stores.pool.query('ANALYZE TABLE sales');
      expect(await sales.listUnsettled(Date.now(), 51)).toEqual([orderOf('paid').saleId]);
      await stores.pool.query(`DELETE FROM sales WHERE sale_id RLIKE '^(settled|draft|later)-'`);
      await stores.pool.query('ANALYZE TABLE sales');
    },
  ],
  // Of a user who has 2,000 orders, two pages of a sale, and of one in which the user has none. At worst all
  // of the user's are read, who has few as a rule.
  'userOrders.list, of a sale': [
    2_000 * PER_ROW,
    async ({ userOrders }) => {
      const mine = `user_id LIKE 'failed-%' AND LENGTH(user_id) < LENGTH('failed-2000')`;
      await stores.pool.query(`UPDATE orders SET batch_id = user_id, user_id = 'collector' WHERE ${mine}`);
      const { saleId, reservedAtMs } = orderOf('failed');
      const search = { userId: 'collector', fromMs: 0, untilMs: reservedAtMs + 1 };
      const first = await userOrders.list({ ...search, saleId, after: undefined }, 100);
      const next = await userOrders.list({ ...search, saleId, after: first.at(-1)?.order }, 100);
      expect(new Set([...first, ...next].map(({ order }) => order.orderNo)).size).toBe(200);
      expect(await userOrders.list({ ...search, saleId: 'another', after: undefined }, 100)).toEqual([]);
      await stores.pool.query(`UPDATE orders SET user_id = batch_id WHERE user_id = 'collector'`);
    },
  ],
  'orders.readAll, a hundred numbers': [
    100 * PER_ROW,
    async ({ orders }) => {
      const [rows] = await stores.pool.query('SELECT order_no FROM orders LIMIT 100');
      const orderNos = (Array.isArray(rows) ? rows : []).map((row) => String(Object.values(row)[0]));
      expect(await orders.readAll(orderNos)).toHaveLength(100);
    },
  ],
  // Of a user who has 2,000 orders, the pages of a day: each order with its line.
  'userOrders.list, two pages': [
    100 * PER_ROW,
    async ({ userOrders }) => {
      const mine = `user_id LIKE 'failed-%' AND LENGTH(user_id) < LENGTH('failed-2000')`;
      await stores.pool.query(`UPDATE orders SET batch_id = user_id, user_id = 'collector' WHERE ${mine}`);
      const untilMs = orderOf('failed').reservedAtMs + 1;
      const search = { userId: 'collector', fromMs: untilMs - 24 * 60 * 60 * 1000, untilMs };
      const first = await userOrders.list({ ...search, after: undefined }, 100);
      const next = await userOrders.list({ ...search, after: first.at(-1)?.order }, 100);
      expect(new Set([...first, ...next].map(({ order }) => order.orderNo)).size).toBe(200);
      await stores.pool.query(`UPDATE orders SET user_id = batch_id WHERE user_id = 'collector'`);
    },
  ],
  'orders.storeOrders, of shoppers who use their keys again after a day': [
    20 * PER_ROW,
    async ({ orders }) => {
      const page = newOrders(20).map((order) => ({ ...order, reservedAtMs: AGO[0].getTime() }));
      await mysqlStores(stores.pool).orders.storeOrders(page, 'due');
      const again = page.map((order) => {
        const { orderNo } = buildOrder({ saleId: order.saleId });
        return { ...order, orderNo, reservedAtMs: AGO[1].getTime() };
      });
      const outcomes = await orders.storeOrders(again, 'due');
      expect([...outcomes.values()].map(({ kind }) => kind)).toEqual(again.map(() => 'stored'));
    },
  ],
  'payments.receivePage: a page of notices, twice, some of whose money went back before': [
    100 * PER_ROW,
    async ({ payments }) => {
      const page = newOrders(100);
      await stores.orders.storeOrders(page, 'started');
      const paid = page.map((order) => buildPayment(order));
      for (const payment of paid.slice(0, 3)) await reverse(stores, buildReversal(payment));
      const received = paid.map((payment) => ({ notice: buildNotice(payment), rawBody: '{}' }));
      expect((await payments.receivePage('sandbox', received)).size).toBe(100);
      expect((await payments.receivePage('sandbox', received)).size).toBe(100);
    },
  ],
  'orders.storeOrders, a page whose money came before': [
    100 * PER_ROW,
    async ({ orders }) => {
      const page = newOrders(100);
      for (const order of page) await stores.payments.record('sandbox', buildPayment(order));
      const outcomes = await orders.storeOrders(page, 'due');
      const statuses = [...outcomes.values()].map((outcome) => 'state' in outcome && outcome.state.status);
      expect(new Set(statuses)).toEqual(new Set(['paid']));
    },
  ],
  'orders.storeOrders, a page, twice': [
    500 * PER_ROW,
    async ({ orders }) => {
      const page = newOrders(500);
      await orders.storeOrders(page, 'due');
      await orders.storeOrders(page, 'started');
    },
  ],
  // An order has two to four events, and each is read for the newest of its order and by the join.
  'orderBooks: checkAfter, unparkWhole': [
    500 * PER_ROW * 4,
    async ({ orderBooks }) => {
      const { last } = await orderBooks.checkAfter('', 500);
      await orderBooks.checkAfter(last ?? '', 500);
      await orderBooks.park([{ orderNo: noOf('paid'), detail: 'for the test' }]);
      await orderBooks.unparkWhole(100);
    },
  ],
  // The sums of a sale are read whole, from an index, once in a run of the reconciliation.
  'saleBooks.read': [
    WHOLE_LEDGER,
    async ({ saleBooks }) => {
      const users = Array.from({ length: 500 }, (_, i) => (i === 0 ? 'paid' : `user-${i}`));
      const query = { atMs: Date.now() - 60_000, users };
      await saleBooks.read(orderOf('paid').saleId, query, async () => {});
    },
  ],
  // Beside the sums above.
  'saleBooks: a page of each list, and what is booked of it': [
    WHOLE_LEDGER + 3_000 * PER_ROW,
    async ({ saleBooks }) => {
      const lines = await saleBooks.listOrdered(orderOf('paid').saleId, '', 500);
      const query = { atMs: Date.now(), users: [] };
      await saleBooks.read(orderOf('paid').saleId, query, async (books) => {
        for await (const page of books.listOpen()) {
          await books.readBooked(page);
          break;
        }
        for await (const page of books.listReturned()) {
          await books.readStored(page.map(({ orderNo }) => orderNo));
          break;
        }
        await books.readOrders(lines.map(({ orderNo }) => orderNo));
      });
    },
  ],
  // A page of order numbers, from orders and payments in a temporary table, and what is told of each.
  'settlement: two pages of the export': [
    500 * 2 * PER_ROW,
    async ({ settlement }) => {
      const pages = settlement(orderOf('paid').saleId);
      const read = [await pages.next(), await pages.next()];
      await pages.return(undefined);
      const lines = read.flatMap(({ value }) => value ?? []);
      expect(new Set(lines.map(({ orderNo }) => orderNo)).size).toBe(1_000);
    },
  ],
  'staffOrders.list: two pages of a sale, of any status and of one': [
    100 * PER_ROW,
    async ({ staffOrders }) => {
      const search = { by: 'saleId', value: orderOf('paid').saleId } as const;
      for (const status of [undefined, 'awaiting_payment', 'failed'] as const) {
        const first = await staffOrders.list({ ...search, status, after: undefined }, 100);
        const next = await staffOrders.list({ ...search, status, after: first.at(-1)?.order.orderNo }, 100);
        expect(new Set([...first, ...next].map(({ order }) => order.orderNo)).size).toBe(200);
      }
    },
  ],
  // Of a sale with no orders, while the id of the big one begins with its id.
  'sales with similar ids: each list of the orders of one': [
    ONE,
    async ({ staffOrders, saleBooks, saleEpochs, settlement, readSaleSnapshot }) => {
      const { saleId } = await stores.openSale(buildSale({ saleId: orderOf('paid').saleId.slice(0, -2) }));
      const search = { by: 'saleId', value: saleId, after: undefined } as const;
      for (const status of [undefined, 'paid'] as const)
        expect(await staffOrders.list({ ...search, status }, 100)).toEqual([]);
      expect(await saleBooks.listOrdered(saleId, '', 500)).toEqual([]);
      for await (const page of settlement(saleId)) expect(page).toEqual([]);
      await saleEpochs.withLock(saleId, (lock) =>
        readSaleSnapshot(lock, saleId, async ({ pages }) => {
          for await (const page of pages) expect(page).toEqual([]);
        }),
      );
      await stores.pool.query('DELETE FROM sales WHERE sale_id = ?', [saleId]);
    },
  ],
  // It reads all that is parked, of all sales.
  'sales with similar ids: the audit of one': [
    25_000,
    async ({ audited }) => {
      expect((await audited(orderOf('paid').saleId.slice(0, -2))).payments).toEqual([]);
    },
  ],
  // The batch, and its sessions and payments.
  'retention: clearContacts': [500 * 3 * PER_ROW, ({ retention }) => retention.clearContacts(0)],
  'retention: clearNotices, deleteParked': [
    500 * PER_ROW,
    async ({ retention }) => {
      await retention.clearNotices(0, 0);
      await retention.deleteParked(0);
    },
  ],
  // The open orders of all sales, and the payments about which something is to be done.
  'retention.isRedisDone': [2 * 12_000, ({ retention }) => retention.isRedisDone(orderOf('paid').saleId, 0)],
  'repairs.readStates of a page': [
    500 * PER_ROW,
    ({ repairs }) => repairs.readStates(newOrders(500).map(({ orderNo }) => orderNo)),
  ],
  'repairs.isBeingEnded': [ONE, async ({ repairs }) => void (await repairs.isBeingEnded(noOf('due')))],
  'projection doubts': [
    ONE,
    async ({ projectionDoubts }) => {
      await projectionDoubts.record(1_000);
      await projectionDoubts.readLeftMs();
    },
  ],
  cursors: [
    ONE,
    async ({ cursors }) => {
      await cursors.save('walk', '1');
      await cursors.read('walk');
      await cursors.save('walk', undefined);
    },
  ],
  'saleEpochs: listWatched, readLife, listRebuilt': [
    ONE,
    async ({ saleEpochs }) => {
      await saleEpochs.listWatched();
      await saleEpochs.readLife(orderOf('paid').saleId);
      await saleEpochs.listRebuilt([orderOf('paid').saleId]);
    },
  ],
  'callingOffs: a page of open orders, one of paid ones, what is under way, and a report': [
    // Of each refund under way its payment, what went back of it, whether it is parked, and its group.
    100 * 3 * PER_ROW,
    async ({ callingOffs }) => {
      const { saleId } = orderOf('paid');
      const job = { jobId: 'of-the-test', saleId, sku: '' };
      const { jobId } = job;
      // Those that have ended are counted by no statement.
      for (const [status, first, count] of [
        ['requested', 0, 100],
        ['succeeded', 100, 20_000],
      ] as const)
        await stores.pool.query(
          `INSERT INTO refunds (order_no, payment_id, amount, target, items, restock, restores_limit, actor, status,
             accepted, given_back, idempotency_key)
           SELECT order_no, payment_id, 1, 1, '[]', FALSE, FALSE, 'ada', ?, ?, ?, ? FROM payments
           WHERE status = 'applied' ORDER BY payment_id LIMIT ? OFFSET ?`,
          [status, status === 'succeeded', status === 'succeeded', `call-off-${jobId}`, count, first],
        );
      await stores.pool.query('ANALYZE TABLE refunds');
      expect((await callingOffs.closeOpen(job, '', 100, async () => new Set())).open).toBe(100);
      expect((await callingOffs.listPaid(job, `${saleId}-0-1-01`, 100)).orders).toHaveLength(100);
      expect(await callingOffs.countPending(jobId)).toMatchObject({ unended: 100, busy: 100 });
      for (const sku of ['', 'lamp'])
        expect((await callingOffs.readFigures({ ...job, sku })).requested.orders).toBe(100);
      await callingOffs.listStuck(jobId, 200);
      await callingOffs.listExceptions(jobId, 200);
      await callingOffs.noteException(jobId, noOf('paid'), 'failed');
      await callingOffs.listOpenJobs(undefined, 500);
      await callingOffs.findJob({ saleId, sku: '' });
    },
  ],
  // Pages end with the ten thousand orders that are read for them. Each is found, and its line is looked for.
  'callingOffs: pages of a SKU that one paid order has, and its dry run': [
    10_000 * 2 + ONE,
    async ({ callingOffs }) => {
      const { saleId, orderNo } = orderOf('paid');
      const rare = { jobId: 'of-the-test', saleId, sku: 'rare' };
      await stores.pool.query(`UPDATE order_items SET sku = 'rare' WHERE order_no = ?`, [orderNo]);
      const found: string[] = [];
      for (let after: string | undefined = ''; after !== undefined;) {
        const page: Awaited<ReturnType<typeof callingOffs.listPaid>> = await callingOffs.listPaid(
          rare,
          after,
          100,
        );
        found.push(...page.orders.map((order) => order.orderNo));
        after = page.next;
      }
      expect(found).toEqual([orderNo]);
      expect(await callingOffs.closeOpen(rare, '', 100, async () => new Set())).toMatchObject({ open: 0 });
      await stores.pool.query(`UPDATE skus SET sku = 'rare' WHERE sale_id = ? AND sku = 'lamp'`, [saleId]);
      const dry = await callingOffs.preview(rare);
      await stores.pool.query(`UPDATE skus SET sku = 'lamp' WHERE sale_id = ?`, [saleId]);
      await stores.pool.query(`UPDATE order_items SET sku = 'lamp' WHERE order_no = ?`, [orderNo]);
      expect(dry).toMatchObject({ open: { orders: 0 }, paid: { orders: 1 }, next: null });
    },
  ],
  // Of each order of a page its row, its line, its payment, and its three refunds, which are sorted.
  'callingOffs: a dry run of a sale, and how it goes on': [
    500 * 2 * PER_ROW,
    async ({ callingOffs }) => {
      const { saleId } = orderOf('paid');
      const first = await callingOffs.preview({ saleId, sku: '' });
      if (typeof first === 'string') throw new Error(first);
      const second = await callingOffs.preview({ saleId, sku: '' }, first.next ?? '');
      expect(second).toMatchObject({ next: expect.stringContaining('paid:') as unknown });
      expect(first.open.orders).toBe(5_000);
    },
  ],
};

/** For a request, or as a step of a workflow: about one order or one payment. */
const REQUESTS: Record<string, Call> = {
  'a person is erased': async ({ persons }) => {
    const { userId, saleId } = orderOf('paid');
    await persons.listOpen(userId);
    const ended = await persons.listEnded(userId, '');
    expect(ended).toHaveLength(1);
    await persons.readOwned(saleId, userId);
    const token = await persons.begin(userId);
    await persons.replace(
      ended.map(({ orderNo }) => orderNo),
      token,
    );
    await persons.end(userId, token, DECISION);
  },
  'orders: read, requestCancel, cancel': async ({ orders }) => {
    const [order] = newOrders(1);
    if (!order) return;
    await orders.storeOrder(order, 'started');
    await orders.read(order.orderNo);
    await orders.requestCancel(order.orderNo);
    await orders.cancel(order.orderNo, 'shopper_request', { force: false });
  },
  'a payment from its session to the paid order, and back': async ({
    orders,
    payments,
    paymentSessions,
    endings,
    refunds,
  }) => {
    const [order] = newOrders(1);
    if (!order) return;
    await orders.storeOrder(order, 'started');
    const begun = await paymentSessions.begin('sandbox', order.orderNo, sign);
    const sessionId = begun.kind === 'begun' ? begun.session.sessionId : '';
    await paymentSessions.recordOpened(sessionId, {
      providerSessionId: 'session',
      url: 'http://localhost/',
      expiresAtMs: null,
    });
    await paymentSessions.listOpen(order.orderNo);
    await paymentSessions.recordClosed(sessionId, 'paid');
    const payment = buildPayment(order);
    const notice = buildNotice(payment);
    await payments.receive('sandbox', notice, '{}');
    await payments.receive('sandbox', notice, '{}');
    await payments.record('sandbox', payment);
    await orders.markPaid(order.orderNo);
    await endings.completeFollow([order.orderNo], true);
    const reversal = buildReversal(payment, { fee: 15 });
    await payments.receive(
      'sandbox',
      { kind: 'payment_reversed', eventId: `evt_${order.orderNo}`, reversal },
      '{}',
    );
    await refunds.recordReversals('sandbox', [reversal]);
    await refunds.returnStock(order.orderNo, 'ada');
  },
  'orders: abandon, park, unpark': async ({ orders }) => {
    const [order] = newOrders(1);
    if (!order) return;
    await orders.abandon(order, 'store_unavailable');
    await orders.park(order.orderNo, 'for the test', null);
    await orders.unpark(order.orderNo);
  },
  'a refund': async ({ refunds }) => {
    const paymentId = await idOf('paid');
    await refunds.request(paymentId, 'ada');
    const task = await refunds.read({ paymentId });
    if (!task) return;
    await refunds.read(task);
    await refunds.recordRefusal(task);
    await refunds.park(paymentId, 'for the test', FAILING);
    await refunds.unpark(paymentId);
    await refunds.readGiveBacks(paymentId);
  },
  'parked work: list, read, resolve': async ({ parkedWork, orders }) => {
    await orders.park(noOf('open'), 'for the test', null);
    for (const kind of [undefined, 'order', 'payment'] as const)
      for (const state of ['parked', 'resolved'] as const) {
        const page = await parkedWork.list({ kind, state, limit: 10 });
        await parkedWork.list({ kind, state, after: page.at(-1)?.parkedId, limit: 10 });
      }
    const [entry] = await parkedWork.list({ limit: 20 });
    await parkedWork.read(entry?.parkedId ?? 0);
    await parkedWork.resolve(entry?.parkedId ?? 0, DECISION);
  },
  'the audit log: by subject, by actor, by time': async ({ auditLog }) => {
    const since = new Date(Date.UTC(2020, 0, 1));
    for (const search of [{}, { subject: 'busy' }, { actor: 'busy' }, { since }, { until: new Date() }]) {
      const page = await auditLog.list(search, 10);
      expect(page).toHaveLength(10);
      await auditLog.list({ ...search, after: page.at(-1)?.entryId }, 10);
    }
  },
  'refunds by state': async ({ refunds }) => {
    for (const status of ['requested', 'succeeded', 'failed'] as const) {
      const page = await refunds.listRefunds(status, undefined, 10);
      await refunds.listRefunds(status, page.at(-1)?.refundId, 10);
    }
  },
  'sales: a rebuild is asked for': async ({ saleEpochs }) => {
    const { saleId } = orderOf('paid');
    expect((await saleEpochs.request(saleId, DECISION)).kind).toBe('requested');
    // No worker rebuilds it here, and the next calls change it.
    await modify(stores.pool, 'UPDATE sales SET rebuilding_since = NULL WHERE sale_id = ?', [saleId]);
  },
  'parked work: retry of each kind': async ({ parkedWork, orders, refunds }) => {
    await orders.park(noOf('open'), 'for the test', null);
    await refunds.park(await idOf('refundDue'), 'for the test', FAILING);
    const { providerPaymentId } = await paymentIdsOf('unmatched');
    await stores.unmatchedPayments.park(providerPaymentId, 'for the test', 'undecided');
    const entries = await parkedWork.list({ limit: 20 });
    for (const { parkedId } of entries) await parkedWork.retry(parkedId, DECISION);
    expect(new Set(entries.map(({ kind }) => kind))).toEqual(new Set(['order', 'refund', 'payment']));
  },
  'events: consumers': async ({ eventConsumers }) => {
    await eventConsumers.commit('books', 1, true);
    await eventConsumers.read('books');
    await eventConsumers.list();
    await eventConsumers.remove('books');
  },
  'sales: listIds, readStock, read, list': async ({ sales }) => {
    await sales.listIds();
    await sales.readStock(orderOf('paid').saleId);
    await sales.readAll([orderOf('paid').saleId, 'no-such-sale']);
    await sales.list('open', '', 50);
  },
  'sales: a change of one in Redis, from its record to its end': async ({ saleChanges }) => {
    const { saleId } = orderOf('paid');
    const recorded = await saleChanges.record({ action: 'pause', saleId }, DECISION);
    if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
    await saleChanges.complete(recorded.change, stores.saleStock);
  },
};

async function measure(call: Call): Promise<Measured[]> {
  const measured: Measured[] = [];
  await call(measuredStores((statement) => measured.push(statement)));
  return measured;
}

function report(name: string, measured: readonly Measured[]): void {
  console.log([name, ...measured.map(({ rows, plan, sql }) => `  ${rows} rows [${plan}] ${sql}`)].join('\n'));
}

test.each(Object.entries(LOOPS))('a loop reads no more than it needs: %s', async (name, [limit, call]) => {
  const measured = await measure(call);
  report(name, measured);
  expect(measured.filter(({ rows }) => rows > limit)).toEqual([]);
});

test.each(Object.entries(REQUESTS))('a request reads no more than it needs: %s', async (name, call) => {
  const measured = await measure(call);
  report(name, measured);
  expect(measured.filter(({ rows }) => rows > ONE)).toEqual([]);
});
