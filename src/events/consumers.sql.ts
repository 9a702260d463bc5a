/** Named consumers of the feed: how far each has come. */

import { z } from 'zod';
import { inTransaction, modify, selectRows, type Executor, type Pool } from '../mysql/connection.ts';
import { readLastSequence } from './events.sql.ts';

/** Named consumers of the feed. A shop has a handful of systems, and each is a sample of the metrics. */
export const MAX_EVENT_CONSUMERS = 50;

export interface EventConsumer {
  name: string;
  /** The sequence of the last event that it has done with; 0: none. */
  position: number;
  /** Events that follow. */
  lag: number;
  updatedAt: Date;
}

/**
 * behind: it has come further, and was not to be set back. ahead: there is no such event yet. too-many: there
 * are as many consumers as may be.
 */
export type Committed =
  | { kind: 'committed'; consumer: EventConsumer }
  | { kind: 'behind'; position: number }
  | { kind: 'ahead'; last: number }
  | { kind: 'too-many' };

const consumerRow = z.object({ name: z.string(), position: z.int(), updated_at: z.date() });

/** Commits a position, and makes the consumer where there is none of that name. */
export function commit(pool: Pool, name: string, position: number, isRewind: boolean): Promise<Committed> {
  return inTransaction(pool, async (connection) => {
    const last = await readLastSequence(connection);
    if (position > last) return { kind: 'ahead', last };
    await insertOnce(connection, name, position);
    const [found] = await selectConsumers(connection, last, 'name = ? FOR UPDATE', [name]);
    if (!found) return { kind: 'too-many' };
    if (position < found.position && !isRewind) return { kind: 'behind', position: found.position };
    await modify(connection, 'UPDATE event_consumers SET position = ?, updated_at = NOW(3) WHERE name = ?', [
      position,
      name,
    ]);
    const lag = last - position;
    return { kind: 'committed', consumer: { ...found, position, lag, updatedAt: new Date() } };
  });
}

/** By name, and the sequence of the last event of all. */
export async function list(pool: Pool): Promise<{ consumers: EventConsumer[]; last: number }> {
  const last = await readLastSequence(pool);
  return { consumers: await selectConsumers(pool, last, 'TRUE ORDER BY name', []), last };
}

/** Undefined when there is none of that name. */
export async function read(pool: Pool, name: string): Promise<EventConsumer | undefined> {
  return (await selectConsumers(pool, await readLastSequence(pool), 'name = ?', [name]))[0];
}

/** Also when there is none. */
export async function remove(pool: Pool, name: string): Promise<void> {
  await modify(pool, 'DELETE FROM event_consumers WHERE name = ?', [name]);
}

/** Consumers that are made at the same moment may exceed the number, each by one. */
async function insertOnce(executor: Executor, name: string, position: number): Promise<void> {
  await modify(
    executor,
    `INSERT INTO event_consumers (name, position) SELECT ?, ? FROM DUAL
     WHERE (SELECT COUNT(*) FROM (SELECT name FROM event_consumers) others) < ?
     ON DUPLICATE KEY UPDATE name = event_consumers.name`,
    [name, position, MAX_EVENT_CONSUMERS],
  );
}

async function selectConsumers(
  executor: Executor,
  last: number,
  condition: string,
  values: readonly unknown[],
): Promise<EventConsumer[]> {
  const rows = await selectRows(
    executor,
    consumerRow,
    `SELECT name, position, updated_at FROM event_consumers WHERE ${condition}`,
    [...values],
  );
  return rows.map(({ name, position, updated_at: updatedAt }) => ({
    name,
    position,
    // It may have come further since `last` was read.
    lag: Math.max(0, last - position),
    updatedAt,
  }));
}
