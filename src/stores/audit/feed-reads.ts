/** Reads for the audit, from MySQL: whether the feed of events is whole. Too slow for any other use. */

import { z } from 'zod';
import { selectRows, type Pool } from '../mysql/connection.ts';

/** Broken numbers that are named. More are no news. */
const NAMED_MAX = 20;

/** The feed of all events, at about one moment. */
export interface AuditedFeed {
  /** The sequence of the last event. */
  last: number;
  /** Events with a sequence up to the last one. */
  numbered: number;
  /** Sequences that several events have, or that are beyond the last one. */
  wrong: number[];
  /** Events that are not of an order, and have no sequence. */
  waiting: string[];
  /** Parked entries, by number, of which there is no event. */
  withoutEvent: number[];
}

const numberRow = z.object({ found: z.coerce.number() });

export async function readFeed(pool: Pool): Promise<AuditedFeed> {
  const numbers = async (sql: string, values: unknown[] = []): Promise<number[]> =>
    (await selectRows(pool, numberRow, sql, values)).map(({ found }) => found);
  const all = `(SELECT sequence FROM order_events WHERE sequence > 0 UNION ALL
    SELECT sequence FROM shop_events WHERE sequence > 0) events`;
  // The last sequence first: what is numbered meanwhile is beyond it, and counted by no statement.
  const [last = 0] = await numbers('SELECT last_sequence AS found FROM event_dispatch');
  const [numbered = 0] = await numbers(`SELECT COUNT(*) AS found FROM ${all} WHERE sequence <= ?`, [last]);
  const doubled = await numbers(
    `SELECT sequence AS found FROM ${all} GROUP BY sequence HAVING COUNT(*) > 1 LIMIT ?`,
    [NAMED_MAX],
  );
  const beyond = await numbers(
    `SELECT sequence AS found FROM ${all}
     WHERE sequence > (SELECT last_sequence FROM event_dispatch) ORDER BY sequence LIMIT ?`,
    [NAMED_MAX],
  );
  return {
    last,
    numbered,
    wrong: [...doubled, ...beyond],
    waiting: await readWaiting(pool),
    withoutEvent: await readWithoutEvent(pool),
  };
}

async function readWaiting(pool: Pool): Promise<string[]> {
  const rows = await selectRows(
    pool,
    z.object({ event_id: z.int(), type: z.string() }),
    'SELECT event_id, type FROM shop_events WHERE sequence IS NULL ORDER BY event_id LIMIT ?',
    [NAMED_MAX],
  );
  return rows.map((row) => `shop.${row.event_id} ${row.type}`);
}

/** What was parked before there were events has none. */
async function readWithoutEvent(pool: Pool): Promise<number[]> {
  const [parked, announced] = await Promise.all([
    selectRows(
      pool,
      numberRow,
      `SELECT parked_id AS found FROM parked WHERE resolved_at IS NULL
         AND parked_at >= (SELECT begun_at FROM event_dispatch)`,
    ),
    selectRows(pool, numberRow, `SELECT subject AS found FROM shop_events WHERE type = 'parked.opened'`),
  ]);
  const subjects = new Set(announced.map(({ found }) => found));
  return parked.map(({ found }) => found).filter((parkedId) => !subjects.has(parkedId));
}
