/** Events in MySQL: numbered in the order of their commits by one dispatcher at a time, then read. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../mysql/connection.ts';
import type { OrderState } from '../orders/order.ts';
import { readOrders as readStored, stateColumns, toState, type StoredOrder } from '../orders/rows.sql.ts';
import { recordAction } from '../parked/parked.sql.ts';
import { addChanges, CHANGES } from '../sales/figures.sql.ts';
import { recordShopEvent } from '../sales/rows.sql.ts';
import type { OrderChange, TypedState } from './event.ts';

/**
 * elsewhere: another process numbers events. numbered: so many, from the number after `after` on;
 * fewer than asked for means that was all.
 */
export type Numbered = { kind: 'elsewhere' } | { kind: 'numbered'; events: number; after: number };

const dispatchRow = z.object({ last_sequence: z.int(), longest_wait_ms: z.int(), now: z.date() });
const unnumberedOrderRow = z.object({ order_no: z.string(), version: z.int(), occurred_at: z.date() });
const unnumberedShopRow = z.object({ event_id: z.int(), occurred_at: z.date() });

/** What was numbered: so many, the first of which occurred then (Unix ms; Infinity: there are none). */
interface NumberedPage {
  events: number;
  oldestMs: number;
}

/**
 * Numbers that are left out after those that MySQL has lost: more than are given within the moments in which
 * a mark of them could not be kept.
 */
const LEFT_OUT = 1_000_000;
/** Where it is not known how many were given: more than any shop gives between two backups. */
const LEFT_OUT_BLINDLY = 1_000_000_000;

/** MySQL's last sequence, and the greater one that it had before it lost commits. */
export interface LostNumbers {
  had: number;
  has: number;
}

/** The name of this history of events, and its last sequence. */
export async function readFeed(pool: Pool): Promise<{ feedId: string; last: number }> {
  const [row] = await selectRows(
    pool,
    z.object({ feed_id: z.string(), last_sequence: z.int() }),
    'SELECT feed_id, last_sequence FROM event_dispatch',
  );
  assert(row, 'event_dispatch has no row');
  return { feedId: row.feed_id, last: row.last_sequence };
}

/**
 * MySQL has lost commits: this sequence was given, and MySQL does not know it. The next ones go on far
 * above it, so that no reader skips an event.
 * @returns undefined when another process has done it
 */
export function skipLostNumbers(pool: Pool, had: number): Promise<LostNumbers | undefined> {
  return inTransaction(pool, async (connection) => {
    const has = await lockLast(connection);
    if (has >= had) return undefined;
    const goesOnAfter = had + LEFT_OUT;
    await leaveOut(connection, has, goesOnAfter);
    const detail = { lastSequence: { before: had, after: has }, goesOnAfter };
    await recordAction(connection, { ...SYSTEM, action: 'commits_lost', subject: 'mysql', detail });
    return { had, has };
  });
}

/**
 * MySQL may have lost commits, and nothing is left that would tell: no number that a reader may know is given
 * again. In the transaction of what was found.
 */
export async function skipUnknownNumbers(connection: PoolConnection): Promise<void> {
  const has = await lockLast(connection);
  const goesOnAfter = has + LEFT_OUT_BLINDLY;
  await leaveOut(connection, has, goesOnAfter);
  const detail = { lastSequence: { before: null, after: has }, goesOnAfter };
  await recordAction(connection, { ...SYSTEM, action: 'numbers_left_out', subject: 'mysql', detail });
}

const SYSTEM = { actor: 'holdfast', reason: null };

async function lockLast(connection: PoolConnection): Promise<number> {
  const [row] = await selectRows(connection, dispatchRow, `${DISPATCH} WHERE dispatch_id = 1 FOR UPDATE`);
  assert(row, 'event_dispatch has no row');
  return row.last_sequence;
}

/** With the event by which readers learn of it, the first that comes after. */
async function leaveOut(connection: PoolConnection, after: number, upTo: number): Promise<void> {
  await setLast(connection, upTo, 0);
  await recordShopEvent(connection, {
    type: 'feed.gap',
    saleId: null,
    subject: 'feed',
    data: { gap: { after, upTo } },
  });
}

/**
 * Numbers up to `max` events, in one transaction.
 * @param known a number that was given: a MySQL that has lost it since gives none
 */
export function numberEvents(pool: Pool, max: number, known = 0): Promise<Numbered> {
  return inTransaction(pool, async (connection) => {
    const found = await lockDispatch(connection);
    if (!found || found.last_sequence < known) return { kind: 'elsewhere' };
    const { last_sequence: last, now } = found;
    const ofShop = await numberShopEvents(connection, last, max);
    const ofOrders = await numberOrderEvents(connection, last + ofShop.events, max - ofShop.events);
    const events = ofShop.events + ofOrders.events;
    const waitedMs = now.getTime() - Math.min(ofShop.oldestMs, ofOrders.oldestMs);
    if (events > 0) await setLast(connection, last + events, Math.max(0, waitedMs));
    return { kind: 'numbered', events, after: last };
  });
}

/**
 * The longest that any event has waited for its number, in ms. Of two events, the one that occurred
 * later has the lower number only if it occurred within so long after the other.
 */
export async function readLongestWaitMs(pool: Pool): Promise<number> {
  return (await readDispatch(pool)).longest_wait_ms;
}

/** Committed events without a number, counted up to `max`. */
export async function countWaiting(pool: Pool, max: number): Promise<number> {
  const [row] = await selectRows(
    pool,
    z.object({ waiting: z.int() }),
    `SELECT COUNT(*) AS waiting FROM (
           (SELECT 1 FROM order_events WHERE sequence IS NULL LIMIT ?) UNION ALL
           (SELECT 1 FROM shop_events WHERE sequence IS NULL LIMIT ?)) events`,
    [max, max],
  );
  return Math.min(row?.waiting ?? 0, max);
}

/** The sequence of the last event. All events up to it can be read. */
export async function readLastSequence(executor: Executor): Promise<number> {
  return (await readDispatch(executor)).last_sequence;
}

const DISPATCH = 'SELECT last_sequence, longest_wait_ms, NOW(3) AS now FROM event_dispatch';

async function readDispatch(executor: Executor) {
  const [row] = await selectRows(executor, dispatchRow, DISPATCH);
  assert(row, 'event_dispatch has no row');
  return row;
}

/** Undefined while another transaction has it. */
async function lockDispatch(connection: PoolConnection) {
  const [row] = await selectRows(
    connection,
    dispatchRow,
    `${DISPATCH} WHERE dispatch_id = 1 FOR UPDATE SKIP LOCKED`,
  );
  return row;
}

/**
 * The page is read without locks and by one statement, which sees each transaction wholly or not at all. An
 * order's version n is committed before n + 1 begins, as both lock the order's row: a statement that sees
 * n + 1 sees n, and n comes first in the page. A read that skips locked rows could miss n and then meet
 * n + 1.
 */
async function numberOrderEvents(
  connection: PoolConnection,
  last: number,
  max: number,
): Promise<NumberedPage> {
  const page = await selectRows(
    connection,
    unnumberedOrderRow,
    `SELECT order_no, version, occurred_at FROM order_events WHERE sequence IS NULL
     ORDER BY order_no, version LIMIT ?`,
    [max],
  );
  if (page.length === 0) return pageOf([]);
  // All of these rows exist, so that each is updated, by its primary key and all by one statement.
  const changed = await modify(
    connection,
    `INSERT INTO order_events (order_no, version, status, payment, sequence) VALUES ?
     ON DUPLICATE KEY UPDATE sequence = VALUES(sequence)`,
    [page.map((row, i) => [row.order_no, row.version, '', '', last + 1 + i])],
  );
  // An updated row counts twice (MySQL), an inserted one once.
  assert.equal(changed, 2 * page.length, 'an event went away before it was numbered');
  await addChanges(connection, last, last + page.length);
  return pageOf(page);
}

async function numberShopEvents(
  connection: PoolConnection,
  last: number,
  max: number,
): Promise<NumberedPage> {
  const page = await selectRows(
    connection,
    unnumberedShopRow,
    'SELECT event_id, occurred_at FROM shop_events WHERE sequence IS NULL ORDER BY event_id LIMIT ?',
    [max],
  );
  if (page.length === 0) return pageOf([]);
  // One statement, as for the events of orders: a thousand would not be done in the time of a transaction.
  const changed = await modify(
    connection,
    `INSERT INTO shop_events (event_id, type, subject, data, sequence) VALUES ?
     ON DUPLICATE KEY UPDATE sequence = VALUES(sequence)`,
    [page.map((row, i) => [row.event_id, '', '', '', last + 1 + i])],
  );
  assert.equal(changed, 2 * page.length, 'an event went away before it was numbered');
  return pageOf(page);
}

function pageOf(page: readonly { occurred_at: Date }[]): NumberedPage {
  return {
    events: page.length,
    oldestMs: Math.min(...page.map((row) => row.occurred_at.getTime())),
  };
}

async function setLast(connection: PoolConnection, last: number, waitedMs: number): Promise<void> {
  await modify(
    connection,
    `UPDATE event_dispatch SET last_sequence = ?, longest_wait_ms = GREATEST(longest_wait_ms, ?)
     WHERE dispatch_id = 1`,
    [last, waitedMs],
  );
}

/** A change of an order, as it was recorded with it. */
export interface OrderEventRow extends OrderChange {
  kind: 'order';
  sequence: number;
  orderNo: string;
  occurredAt: Date;
}

/** Any other event. */
export interface ShopEventRow {
  kind: 'shop';
  sequence: number;
  /** Of those in `SHOP_EVENT_TYPES`, or a newer one of another version: it must not end the feed for all. */
  type: string;
  saleId: string | null;
  /** As its consumers get it. */
  data: Record<string, unknown>;
  /** Of `data` as JSON. */
  bytes: number;
  occurredAt: Date;
}

export type EventRow = OrderEventRow | ShopEventRow;

/** The state that an order got by a numbered change. */
export interface NumberedState {
  sequence: number;
  orderNo: string;
  state: OrderState;
}

export interface EventRange {
  /** Sequences: of the last event that is known, and of the last that is wanted. */
  after: number;
  upTo: number;
  max: number;
  /** Of the shop's events together; the first of them may have more. */
  maxBytes: number;
}

export interface EventList {
  rows: EventRow[];
  /** Up to this sequence all events are in `rows`, but for those that were deleted by hand. */
  readTo: number;
}

/** The state that a version of the order had, in the columns of `order_events`. */
const orderEventRow = z.object({
  sequence: z.int(),
  order_no: z.string(),
  occurred_at: z.date(),
  status: stateColumns.status,
  version: stateColumns.version,
  payment: stateColumns.payment,
  reason: stateColumns.closing_reason,
  refunded: stateColumns.refunded,
  extended_until: stateColumns.extended_until,
  status_before: stateColumns.status.nullable(),
  payment_before: stateColumns.payment.nullable(),
  reason_before: stateColumns.closing_reason,
  refunded_before: stateColumns.refunded.nullable(),
  extended_until_before: stateColumns.extended_until,
});

const stateRow = z.object({
  sequence: z.int(),
  order_no: z.string(),
  ...stateColumns,
  old: z.coerce.boolean(),
});

const shopEventRow = z.object({
  sequence: z.int(),
  type: z.string(),
  sale_id: z.string().nullable(),
  data: z.string(),
  occurred_at: z.date(),
});

const sizeRow = z.object({ sequence: z.int(), bytes: z.int() });

const dataJson = z.record(z.string(), z.unknown());

/**
 * The events after `after` and up to `upTo`, at most `max`. Up to the last sequence all are there; those
 * beyond it might be committed between the two reads, and there would be a gap.
 */
export async function list(pool: Pool, range: EventRange): Promise<EventList> {
  const { upTo, max } = range;
  const [ofOrders, ofShop] = await Promise.all([listOrderEvents(pool, range), listShopEvents(pool, range)]);
  const all = [...ofOrders, ...ofShop.rows].toSorted((a, b) => a.sequence - b.sequence);
  const rows = all.filter(({ sequence }) => sequence <= ofShop.readTo).slice(0, max);
  const last = rows.at(-1);
  return { rows, readTo: rows.length === max && last ? last.sequence : Math.min(ofShop.readTo, upTo) };
}

/**
 * The states that orders got by the events after this one, at most `max`, up to the first that is younger
 * than `ageMs`. One statement sees the numbers without a gap.
 */
export async function listStates(
  pool: Pool,
  after: number,
  max: number,
  ageMs: number,
): Promise<NumberedState[]> {
  const rows = await selectRows(
    pool,
    stateRow,
    `SELECT sequence, order_no, status, version, payment, reason AS closing_reason, refunded, extended_until,
           occurred_at <= NOW(3) - INTERVAL ? * 1000 MICROSECOND AS old
         FROM order_events WHERE sequence > ? ORDER BY sequence LIMIT ?`,
    [ageMs, after, max],
  );
  const young = rows.findIndex(({ old }) => !old);
  return rows.slice(0, young < 0 ? rows.length : young).map(({ sequence, order_no: orderNo, ...row }) => ({
    sequence,
    orderNo,
    state: toState(row),
  }));
}

/** The orders by number; their content never changes, but for the person when it is erased. */
export async function readOrders(pool: Pool, orderNos: readonly string[]): Promise<Map<string, StoredOrder>> {
  const stored = await readStored(pool, orderNos);
  return new Map(stored.map((one) => [one.order.orderNo, one]));
}

const countedRow = z.object({
  status: orderEventRow.shape.status,
  payment: orderEventRow.shape.payment,
  reason: orderEventRow.shape.reason,
  status_before: orderEventRow.shape.status_before,
  payment_before: orderEventRow.shape.payment_before,
  reason_before: orderEventRow.shape.reason_before,
  extended: z.coerce.boolean(),
  storedByWorkflow: z.coerce.boolean(),
  unbegun: z.coerce.boolean(),
  orders: z.int(),
  acceptedAgoMs: z.coerce.number().nullable(),
  noticedAgoMs: z.coerce.number().nullable(),
});

/** Changes of orders that are counted alike, so many. Times are their mean, from then until the change. */
export interface CountedChanges {
  orders: number;
  before: TypedState | null;
  state: TypedState;
  /** They were stored by it, and not ahead of it by a relay. */
  isStoredByWorkflow: boolean;
  /** They were paid or cancelled, and no workflow of them has begun. */
  isUnbegun: boolean;
  /** Null: they were not stored by this change. */
  acceptedAgoMs: number | null;
  /** Of the payment that pays for the order; null: none does. */
  noticedAgoMs: number | null;
}

/**
 * The changes of orders after one sequence and up to another. In a rush thousands a second are alike, so the
 * server sums them: a row each took a quarter of the worker's time for an order.
 * @param bucketsMs changes whose times are on two sides of one of these are not alike
 */
export async function countChanges(
  pool: Pool,
  after: number,
  upTo: number,
  bucketsMs: readonly number[],
): Promise<CountedChanges[]> {
  const rows = await selectRows(
    pool,
    countedRow,
    // An order that its workflow stores has begun in the statement that stores it.
    `SELECT status, payment, reason, status_before, payment_before, reason_before, extended, storedByWorkflow,
       unbegun, COUNT(*) AS orders, AVG(acceptedAgoMs) AS acceptedAgoMs, AVG(noticedAgoMs) AS noticedAgoMs
     FROM (
       SELECT e.status, e.payment, e.reason,
         b.status AS status_before, b.payment AS payment_before, b.reason AS reason_before,
         b.status IS NOT NULL AND NOT (e.extended_until <=> b.extended_until) AS extended,
         b.status IS NULL AND COALESCE(o.workflow_started_at <= o.created_at, FALSE) AS storedByWorkflow,
         e.status IN ('paid', 'cancelled') AND o.workflow_started_at IS NULL AS unbegun,
         IF(b.status IS NULL, TIMESTAMPDIFF(MICROSECOND, o.reserved_at, e.occurred_at) / 1000, NULL)
           AS acceptedAgoMs,
         IF(e.status = 'paid', (
           SELECT TIMESTAMPDIFF(MICROSECOND, MIN(p.received_at), e.occurred_at) / 1000
           FROM payments p WHERE p.order_no = e.order_no AND p.applied_at IS NOT NULL
         ), NULL) AS noticedAgoMs
       FROM ${CHANGES} JOIN orders o ON o.order_no = e.order_no
       WHERE e.sequence > ? AND e.sequence <= ?
     ) changes
     GROUP BY status, payment, reason, status_before, payment_before, reason_before, extended, storedByWorkflow,
       unbegun, INTERVAL(acceptedAgoMs, ?), INTERVAL(noticedAgoMs, ?)`,
    [after, upTo, bucketsMs, bucketsMs],
  );
  return rows.map(({ status, payment, reason, storedByWorkflow, unbegun, ...row }) => ({
    orders: row.orders,
    // Only that it was extended is known of many.
    state: { status, payment, reason, ...(row.extended && { extendedUntilMs: Infinity }) },
    before:
      row.status_before && row.payment_before
        ? { status: row.status_before, payment: row.payment_before, reason: row.reason_before }
        : null,
    isStoredByWorkflow: storedByWorkflow,
    isUnbegun: unbegun,
    acceptedAgoMs: row.acceptedAgoMs,
    noticedAgoMs: row.noticedAgoMs,
  }));
}

const EVENT_COLUMNS = `e.sequence, e.order_no, e.occurred_at, e.status, e.version, e.payment, e.reason, e.refunded,
  b.status AS status_before, b.payment AS payment_before, b.reason AS reason_before,
  b.refunded AS refunded_before, e.extended_until, b.extended_until AS extended_until_before`;

async function listOrderEvents(pool: Pool, { after, upTo, max }: EventRange): Promise<OrderEventRow[]> {
  const rows = await selectRows(
    pool,
    orderEventRow,
    `SELECT ${EVENT_COLUMNS} FROM ${CHANGES}
     WHERE e.sequence > ? AND e.sequence <= ? ORDER BY e.sequence LIMIT ?`,
    [after, upTo, max],
  );
  return rows.map((row) => ({
    kind: 'order',
    sequence: row.sequence,
    orderNo: row.order_no,
    occurredAt: row.occurred_at,
    state: toState({ ...row, closing_reason: row.reason }),
    before: stateBefore(row),
  }));
}

function stateBefore({ version, ...row }: z.infer<typeof orderEventRow>): OrderState | null {
  const { status_before: status, payment_before: payment, reason_before: reason } = row;
  if (!status || !payment) return null;
  return toState({
    status,
    payment,
    closing_reason: reason,
    refunded: row.refunded_before ?? 0,
    extended_until: row.extended_until_before,
    version: version - 1,
  });
}

/** What does not fit is not read: the server says first how large each is. */
async function listShopEvents(
  pool: Pool,
  { after, upTo, max, maxBytes }: EventRange,
): Promise<{ rows: ShopEventRow[]; readTo: number }> {
  const sizes = await selectRows(
    pool,
    sizeRow,
    `SELECT sequence, LENGTH(data) AS bytes FROM shop_events
     WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
    [after, upTo, max],
  );
  if (sizes.length === 0) return { rows: [], readTo: upTo };
  let total = 0;
  // The first fits, whatever its size, or the reader would never get beyond it.
  const tooMuch = sizes.find(({ bytes }, i) => {
    total += bytes;
    return i > 0 && total > maxBytes;
  });
  const readTo = tooMuch ? tooMuch.sequence - 1 : upTo;
  const rows = await selectRows(
    pool,
    shopEventRow,
    `SELECT sequence, type, sale_id, data, occurred_at FROM shop_events
     WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?`,
    [after, readTo, max],
  );
  return { rows: rows.map(toShopEvent), readTo };
}

function toShopEvent(row: z.infer<typeof shopEventRow>): ShopEventRow {
  return {
    kind: 'shop',
    sequence: row.sequence,
    type: row.type,
    saleId: row.sale_id,
    data: dataJson.parse(JSON.parse(row.data)),
    bytes: Buffer.byteLength(row.data),
    occurredAt: row.occurred_at,
  };
}
