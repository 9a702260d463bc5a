/** What MySQL tells of a status: what waits, and the beats of the workers for when Redis is away. */

import { z } from 'zod';
import { modify, selectRows, takesWrites, type Pool } from '../mysql/connection.ts';
import { listUnbegunSales, UNBEGUN } from '../orders/turns.sql.ts';
import { PARKED_KINDS } from '../parked/parked.sql.ts';
import {
  beatText,
  COUNTED_MAX,
  KEPT_MS,
  type Backlog,
  type Status,
  type Waiting,
  type WorkerBeat,
} from './status.ts';

export { takesWrites };

const workerRow = z.object({ beat: z.string(), silentMs: z.int() });

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

export async function listWorkers(pool: Pool): Promise<Status['workers']> {
  const rows = await selectRows(
    pool,
    workerRow,
    `SELECT beat, GREATEST(0, TIMESTAMPDIFF(MICROSECOND, seen_at, NOW(3)) DIV 1000) AS silentMs
     FROM worker_beats WHERE seen_at >= NOW(3) - INTERVAL ? SECOND`,
    [KEPT_MS / 1_000],
  );
  return rows.flatMap(({ beat: text, silentMs }) => {
    const worker = beatText.safeParse(text).data;
    return worker ? [{ ...worker, silentMs }] : [];
  });
}

// By indexes, and up to a bound, so that a look each second costs little.

const waitingRow = z.object({
  waiting: z.int(),
  oldestMs: z.coerce.number().nullable(),
});

const ageOf = (column: string): string =>
  `GREATEST(0, TIMESTAMPDIFF(MICROSECOND, ${column}, NOW(3)) DIV 1000)`;

/** A payment that an operator has settled by hand, or is to, stays `received`. */
const ON_THEIR_WAY = `FROM payments p FORCE INDEX (payments_by_status) WHERE status = 'received' AND NOT EXISTS (
  SELECT 1 FROM parked k WHERE k.kind = 'payment' AND k.reference = p.provider_payment_id
    AND (k.resolved_at IS NULL OR k.settled_by = 'operator'))`;

/** One statement after the other: it takes one of the connections that shoppers need. */
export async function readBacklog(pool: Pool): Promise<Backlog> {
  const notBegun = await readNotBegun(pool);
  const payments = await readWaiting(
    pool,
    `SELECT 1 ${ON_THEIR_WAY}`,
    `SELECT ${ageOf('received_at')} ${ON_THEIR_WAY} ORDER BY payment_id LIMIT 1`,
  );
  const refunds = await readWaiting(
    pool,
    'SELECT 1 FROM payments FORCE INDEX (payments_due) WHERE engine_due_at IS NOT NULL',
    'NULL',
  );
  return { notBegun, payments, refunds: refunds.waiting };
}

/** The oldest of a sale is that of its first deadline, where all windows are alike. */
async function readNotBegun(pool: Pool): Promise<Waiting> {
  const from = `FROM orders${UNBEGUN.hint} WHERE ${UNBEGUN.where}`;
  let oldestMs: number | null = null;
  for (const saleId of await listUnbegunSales(pool, '')) {
    const [first] = await selectRows(
      pool,
      waitingRow.pick({ oldestMs: true }),
      `SELECT ${ageOf('reserved_at')} AS oldestMs ${from} AND sale_id = ? ORDER BY deadline LIMIT 1`,
      [saleId],
    );
    oldestMs = Math.max(oldestMs ?? 0, first?.oldestMs ?? 0);
  }
  return { ...(await readWaiting(pool, `SELECT 1 ${from}`, 'NULL')), oldestMs };
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

const COUNT_OF_KIND = `SELECT ? AS kind, COUNT(*) AS waiting, MAX(${ageOf('parked_at')}) AS oldestMs FROM (
  SELECT parked_at FROM parked FORCE INDEX (parked_open_kinds) WHERE resolved_at IS NULL AND kind = ?
  ORDER BY parked_at LIMIT ${COUNTED_MAX}) unresolved`;

/** Parked work that waits for an operator, by kind. */
export async function readParked(pool: Pool): Promise<Status['parked']> {
  const rows = await selectRows(
    pool,
    parkedRow,
    PARKED_KINDS.map(() => `(${COUNT_OF_KIND})`).join(' UNION ALL '),
    PARKED_KINDS.flatMap((kind) => [kind, kind]),
  );
  return rows.filter(({ waiting }) => waiting > 0);
}
