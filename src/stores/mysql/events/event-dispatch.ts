/**
 * Gives committed events their public sequence: contiguous, in the order of versions for each order, by one
 * dispatcher at a time.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import {
  inTransaction,
  modify,
  selectRows,
  type Executor,
  type Pool,
  type PoolConnection,
} from '../connection.ts';
import { recordAction } from '../rows/audit-log.ts';

/** elsewhere: another process numbers events. numbered: so many; fewer than asked for means that was all. */
export type Numbered = { kind: 'elsewhere' } | { kind: 'numbered'; events: number };

const dispatchRow = z.object({ last_sequence: z.int(), longest_wait_ms: z.int(), now: z.date() });
const orderEventRow = z.object({ order_no: z.string(), version: z.int(), occurred_at: z.date() });
const shopEventRow = z.object({ event_id: z.int(), occurred_at: z.date() });

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
    const [row] = await selectRows(connection, dispatchRow, `${DISPATCH} WHERE dispatch_id = 1 FOR UPDATE`);
    assert(row, 'event_dispatch has no row');
    const has = row.last_sequence;
    if (has >= had) return undefined;
    await setLast(connection, had + LEFT_OUT, 0);
    const detail = { lastSequence: { before: had, after: has }, goesOnAfter: had + LEFT_OUT };
    const decision = { actor: 'holdfast', reason: null };
    await recordAction(connection, { ...decision, action: 'commits_lost', subject: 'mysql', detail });
    return { had, has };
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
    return { kind: 'numbered', events };
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
    orderEventRow,
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
  return pageOf(page);
}

async function numberShopEvents(
  connection: PoolConnection,
  last: number,
  max: number,
): Promise<NumberedPage> {
  const page = await selectRows(
    connection,
    shopEventRow,
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
