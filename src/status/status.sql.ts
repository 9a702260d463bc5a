/** What MySQL tells of a status: what waits, and the beats of the workers for when Redis is away. */

import { z } from 'zod';
import { modify, selectRows, type Pool } from '../mysql/connection.ts';
import { jsonText } from '../orders/content.ts';
import { PARKED_KINDS } from '../parked/parked.sql.ts';
import {
  COUNTED_MAX,
  KEPT_MS,
  workerBeat,
  type Backlog,
  type SeenWorker,
  type Status,
  type Waiting,
  type WorkerBeat,
} from './status.ts';

const workerRow = z.object({ beat: jsonText(workerBeat), silentMs: z.int() });

export async function beat(pool: Pool, worker: WorkerBeat): Promise<void> {
  await modify(
    pool,
    `INSERT INTO worker_beats (worker_id, beat, seen_at) VALUES (?, ?, NOW(3))
     ON DUPLICATE KEY UPDATE beat = VALUES(beat), seen_at = VALUES(seen_at)`,
    [worker.workerId, JSON.stringify(worker)],
  );
  await modify(pool, `DELETE FROM worker_beats WHERE seen_at < NOW(3) - INTERVAL ? SECOND`, [
    KEPT_MS / 1_000,
  ]);
}

/** One that stops is not silent. */
export async function leave(pool: Pool, workerId: string): Promise<void> {
  await modify(pool, 'DELETE FROM worker_beats WHERE worker_id = ?', [workerId]);
}

export async function listWorkers(pool: Pool): Promise<SeenWorker[]> {
  const rows = await selectRows(
    pool,
    workerRow,
    `SELECT beat, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, seen_at, NOW(3)) DIV 1000) AS silentMs
     FROM worker_beats`,
  );
  return rows.map(({ beat: worker, silentMs }) => ({ ...worker, silentMs }));
}

// By indexes, and up to a bound, so that a look each second costs little.

const waitingRow = z.object({
  waiting: z.int(),
  oldestMs: z.coerce.number().nullable(),
});

const ageOf = (column: string): string =>
  `GREATEST(0, TIMESTAMPDIFF(MICROSECOND, ${column}, NOW(3)) DIV 1000)`;

/** The oldest is that of the first deadline, which is that of the first order where all windows are alike. */
const NOT_BEGUN = `workflow_started_at IS NULL AND status = 'awaiting_payment' AND payment = 'none'
  AND end_due_at IS NULL`;

export async function readBacklog(pool: Pool): Promise<Backlog> {
  const [notBegun, payments, refunds] = await Promise.all([
    readWaiting(
      pool,
      `SELECT 1 FROM orders WHERE ${NOT_BEGUN}`,
      `SELECT ${ageOf('reserved_at')} FROM orders WHERE ${NOT_BEGUN} ORDER BY deadline LIMIT 1`,
    ),
    readWaiting(
      pool,
      `SELECT 1 FROM payments WHERE status = 'received'`,
      `SELECT ${ageOf('received_at')} FROM payments WHERE status = 'received' ORDER BY payment_id LIMIT 1`,
    ),
    readWaiting(
      pool,
      'SELECT 1 FROM payments WHERE engine_due_at <= NOW(3)',
      `SELECT ${ageOf('engine_due_at')} FROM payments WHERE engine_due_at <= NOW(3)
       ORDER BY engine_due_at LIMIT 1`,
    ),
  ]);
  return { notBegun, payments, refunds };
}

async function readWaiting(pool: Pool, all: string, oldest: string): Promise<Waiting> {
  const [row] = await selectRows(
    pool,
    waitingRow,
    `SELECT COUNT(*) AS waiting, (${oldest}) AS oldestMs FROM (${all} LIMIT ${COUNTED_MAX}) counted`,
  );
  return row ?? { waiting: 0, oldestMs: null };
}

const parkedRow = z.object({ kind: z.enum(PARKED_KINDS), ...waitingRow.shape });

/** Parked work that waits for an operator, by kind. */
export function readParked(pool: Pool): Promise<Status['parked']> {
  return selectRows(
    pool,
    parkedRow,
    `SELECT kind, COUNT(*) AS waiting, MAX(${ageOf('parked_at')}) AS oldestMs FROM (
       SELECT kind, parked_at FROM parked WHERE resolved_at IS NULL ORDER BY parked_id LIMIT ${COUNTED_MAX}
     ) unresolved GROUP BY kind`,
  );
}
