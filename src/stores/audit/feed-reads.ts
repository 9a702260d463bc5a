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
  /** Sequences up to the last one that no event is to have, because MySQL had lost commits. */
  leftOut: number;
  /** Sequences that several events have, or that are beyond the last one. */
  wrong: number[];
  /** Events that are not of an order, and have no sequence. */
  waiting: string[];
  /** Parked entries, by number, of which there is no event since they were parked. */
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
  const leftOut = await numbers(
    `SELECT JSON_EXTRACT(detail, '$.goesOnAfter') - JSON_EXTRACT(detail, '$.lastSequence.after') AS found
     FROM audit_log WHERE action = 'commits_lost'`,
  );
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
    leftOut: leftOut.reduce((sum, count) => sum + count, 0),
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
  // A payment that is parked already may be parked anew without an event: any event of it will do.
  const parked = await selectRows(
    pool,
    z.object({ parked_id: z.int(), since: z.date() }),
    `SELECT p.parked_id, IF(p.kind = 'payment', d.begun_at, p.parked_at) AS since FROM parked p
     JOIN event_dispatch d WHERE p.resolved_at IS NULL AND p.parked_at >= d.begun_at`,
  );
  const announced = await selectRows(
    pool,
    z.object({ subject: z.coerce.number(), last: z.date() }),
    `SELECT subject, MAX(occurred_at) AS last FROM shop_events WHERE type = 'parked.opened' GROUP BY subject`,
  );
  const lastOf = new Map(announced.map(({ subject, last }) => [subject, last]));
  return parked.flatMap(({ parked_id: parkedId, since }) => {
    const last = lastOf.get(parkedId);
    return last && last >= since ? [] : [parkedId];
  });
}
