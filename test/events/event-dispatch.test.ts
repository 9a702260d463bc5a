/** Numbering events: contiguous, in order per order, each once, whatever commits when. */

import { setImmediate as turn } from 'node:timers/promises';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { readEvents, type FeedEvent } from '../../src/events/feed.ts';
import { createMysqlPool, modify } from '../../src/mysql/connection.ts';
import { recordShopEvent } from '../../src/sales/rows.sql.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import { replaceMethod } from '../money/pausing-pool.ts';
import { dispatchEvents, readFeed } from '../support/events.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { buildPayment } from '../support/payment-notices.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

const lastSequence = () => stores.eventRows.readLastSequence();

async function openBigSale(): Promise<string> {
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 100_000, limitPerUser: null }];
  return (await stores.openSale(buildSale({ skus }))).saleId;
}

/** Of all events, in both tables. */
async function readSequences(): Promise<number[]> {
  const rows = await select(
    stores.pool,
    `SELECT sequence FROM order_events WHERE sequence > 0 UNION ALL
     SELECT sequence FROM shop_events ORDER BY sequence`,
  );
  return rows.map(({ sequence }) => Number(sequence));
}

const countFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);

test('what is committed gets the next numbers, an order’s versions in their order', async () => {
  const before = await lastSequence();
  const saleId = await openBigSale();
  const orders = [buildOrder({ saleId }), buildOrder({ saleId })];
  await stores.orders.storeOrders(orders, 'due');
  for (const order of orders) await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });

  expect(await stores.eventRows.countWaiting(100)).toBe(6);
  expect(await stores.eventRows.numberEvents(100)).toMatchObject({ kind: 'numbered', events: 6 });
  expect(await stores.eventRows.numberEvents(100)).toMatchObject({ kind: 'numbered', events: 0 });

  expect(await lastSequence()).toBe(before + 6);
  expect(await stores.eventRows.countWaiting(100)).toBe(0);
  for (const { orderNo } of orders) {
    const rows = await select(
      stores.pool,
      'SELECT version, sequence FROM order_events WHERE order_no = ? ORDER BY sequence',
      [orderNo],
    );
    expect(rows.map(({ version }) => version)).toEqual([1, 2, 3]);
  }
});

test('more than a page is numbered page by page', async () => {
  const before = await lastSequence();
  const saleId = await openBigSale();
  await stores.orders.storeOrders(
    Array.from({ length: 5 }, () => buildOrder({ saleId })),
    'due',
  );
  const counts: number[] = [];
  for (let page = 0; page < 4; page += 1) {
    const outcome = await stores.eventRows.numberEvents(2);
    if (outcome.kind === 'numbered') counts.push(outcome.events);
  }
  expect(counts).toEqual([2, 2, 1, 0]);
  expect((await readSequences()).filter((sequence) => sequence > before)).toEqual(countFrom(before + 1, 5));
});

test('what is not committed has no number, holds up no other, and gets one afterwards', async () => {
  const saleId = await openBigSale();
  const connection = await stores.pool.getConnection();
  await connection.beginTransaction();
  await recordShopEvent(connection, { type: 'sale.opened', saleId, subject: saleId, data: { late: true } });
  const order = buildOrder({ saleId });
  await stores.orders.storeOrder(order, 'due');

  const early = await readFeed(stores, 0);
  expect(early.at(-1)).toMatchObject({ orderNo: order.orderNo });
  await connection.commit();
  connection.release();

  const late = await readFeed(stores, early.at(-1)?.sequence);
  expect(late).toMatchObject([{ type: 'sale.opened', saleId, data: { late: true } }]);
});

test('while one dispatcher numbers events the others do nothing, and storing goes on', async () => {
  const saleId = await openBigSale();
  const connection = await stores.pool.getConnection();
  await connection.beginTransaction();
  await connection.query('SELECT * FROM event_dispatch FOR UPDATE');
  const before = await lastSequence();

  expect(await stores.eventRows.numberEvents(10)).toEqual({ kind: 'elsewhere' });
  const outcome = await stores.orders.storeOrder(buildOrder({ saleId }), 'due');
  expect(outcome.kind).toBe('stored');
  expect(await lastSequence()).toBe(before);

  await connection.rollback();
  connection.release();
  expect(await stores.eventRows.numberEvents(10)).toMatchObject({ kind: 'numbered', events: 1 });
});

test('orders are stored while a dispatcher has numbered and not committed', async () => {
  const saleId = await openBigSale();
  const first = buildOrder({ saleId });
  await stores.orders.storeOrder(first, 'due');
  const held = await stores.pool.getConnection();
  await held.beginTransaction();
  // The statement of the dispatcher, on the very rows beside which new ones go.
  await modify(
    held,
    `INSERT INTO order_events (order_no, version, status, payment, sequence)
     SELECT order_no, version, '', '', 1 FROM order_events old WHERE sequence IS NULL
     ON DUPLICATE KEY UPDATE sequence = 999999`,
  );

  await stores.orders.storeOrders(
    Array.from({ length: 20 }, () => buildOrder({ saleId })),
    'due',
  );
  await stores.orders.cancel(first.orderNo, 'payment_timeout', { force: true });

  await held.rollback();
  held.release();
  await dispatchEvents(stores);
});

/** Reads as a consumer does, until it has the last event after `isOver`. */
async function follow(from: number, isOver: () => boolean): Promise<FeedEvent[]> {
  const seen: FeedEvent[] = [];
  for (let next = from; ;) {
    const over = isOver();
    const page = await readEvents(stores, { after: next, limit: 50, filter: {} });
    if (page.kind !== 'page') throw new Error('the reader is ahead');
    seen.push(...page.events);
    if (over && page.next === next) return seen;
    next = page.next;
    await turn();
  }
}

test('a reader misses nothing and sees each order in order, while many write and several dispatchers number', async () => {
  const before = (await readFeed(stores)).at(-1)?.sequence ?? 0;
  const saleId = await openBigSale();
  const over = new AbortController();
  const slow = await stores.pool.getConnection();
  await slow.beginTransaction();
  await recordShopEvent(slow, { type: 'sale.closed', saleId, subject: saleId, data: {} });

  async function live(i: number): Promise<void> {
    const order = buildOrder({ saleId, userId: `u${i}` });
    await stores.orders.storeOrder(order, 'due');
    if (i % 3 === 0) await stores.payments.record('sandbox', buildPayment(order));
    else if (i % 3 === 1) await stores.orders.requestCancel(order.orderNo);
    await stores.orders.cancel(order.orderNo, 'payment_timeout', { force: true });
    // A transaction that is idle for ten seconds is ended by the server.
    await slow.query('DO 1');
  }
  const dispatchers = [3, 7, 100].map(async (page) => {
    while (!over.signal.aborted) {
      await stores.eventRows.numberEvents(page);
      await turn();
    }
  });
  const reading = follow(before, () => over.signal.aborted);
  onTestFinished(async () => {
    over.abort();
    await Promise.allSettled([...dispatchers, reading]);
  });
  await Promise.all(
    Array.from({ length: 8 }, async (_, writer) => {
      for (let i = writer; i < 120; i += 8) await live(i);
    }),
  );
  await slow.commit();
  slow.release();
  await dispatchEvents(stores);
  over.abort();
  await Promise.all(dispatchers);
  const seen = await reading;

  expect(seen.map(({ sequence }) => sequence)).toEqual(countFrom(before + 1, seen.length));
  expect(new Set(seen.map(({ id }) => id)).size).toBe(seen.length);
  expect(seen.filter(({ type }) => type === 'sale.closed')).toHaveLength(1);
  const versions = new Map<string, number[]>();
  for (const event of seen) {
    if (!('orderNo' in event)) continue;
    versions.set(event.orderNo, [...(versions.get(event.orderNo) ?? []), event.version]);
  }
  const stored = await select(stores.pool, 'SELECT order_no, version FROM orders WHERE sale_id = ?', [
    saleId,
  ]);
  expect(stored).toHaveLength(120);
  for (const { order_no: orderNo, version } of stored) {
    expect(versions.get(String(orderNo))).toEqual(countFrom(1, Number(version)));
  }
});

test('a dispatcher that dies before its commit has numbered nothing, and the next one numbers all', async () => {
  const saleId = await openBigSale();
  const before = await lastSequence();
  await stores.orders.storeOrders(
    Array.from({ length: 3 }, () => buildOrder({ saleId })),
    'due',
  );
  const pool = createMysqlPool(stores.config.MYSQL_URL);
  // Its connection is gone in the middle: before the last sequence is written.
  const dying = replaceMethod(pool, 'getConnection', async () => {
    const connection = await pool.getConnection();
    return replaceMethod(connection, 'query', (_, query, args) => {
      if (String(args[0]).startsWith('UPDATE event_dispatch')) connection.destroy();
      return query(...args);
    });
  });
  await expect(mysqlStores(dying).eventRows.numberEvents(10)).rejects.toThrow();
  await pool.end().catch(() => {});

  expect(await lastSequence()).toBe(before);
  await dispatchEvents(stores);
  expect((await readSequences()).filter((sequence) => sequence > before)).toEqual(countFrom(before + 1, 3));
});

test('events of a sale keep the order in which they happened', async () => {
  const { saleId } = await stores.openSale(buildSale());
  const types = ['sale.opened', 'sale.sold_out', 'sale.closed'] as const;
  const before = await lastSequence();
  for (const type of types) await recordShopEvent(stores.pool, { type, saleId, subject: saleId, data: {} });
  expect((await readFeed(stores, before)).map(({ type }) => type)).toEqual(types);
  expect(await selectOne(stores.pool, 'SELECT COUNT(*) AS rows_of_it FROM event_dispatch')).toEqual({
    rows_of_it: 1,
  });
});
