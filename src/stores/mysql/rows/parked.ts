/**
 * Parked work: orders, payments, refunds and outbox entries that the rules could not settle, for an operator.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { atomically, modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';
import type { ParkedFacts, ParkedKind } from './parked-facts.ts';
import { recordParkedOpened } from './parked-opened.ts';

/**
 * The end of a reason that leaves a decision to an operator: whether the units of a refunded order may be
 * sold again. Rows are found by it, so the text must stay as it is.
 */
export const STOCK_DECISION_PENDING = 'stock comes back only if you say so';

/** The width of the columns. */
const MAX_REASON_CHARS = 500;
const MAX_REFERENCE_CHARS = 255;
/** An input is an id or an amount. A longer one is cut, because it is only shown. */
const MAX_INPUT_CHARS = 255;
/** How often a failure of parked work is counted at most: often enough to see that it goes on. */
const NOTE_EVERY_SECONDS = 30;

const IS_OPEN = 'resolved_at IS NULL';
/** An operator has settled it for the very facts for which the rules would park it. */
const IS_SETTLED = `(settled_by = 'operator' AND resolved_at IS NOT NULL AND cause = VALUES(cause)
  AND inputs <=> VALUES(inputs))`;

/**
 * Parks something for an operator. While it is parked, its first reason and facts stay, and the newest error
 * is kept beside them. Parked again later, it gets new ones; unless an operator has resolved it for the same
 * facts, and then it stays resolved.
 */
export async function park(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
  facts: ParkedFacts,
): Promise<void> {
  await write(executor, { kind, reference, reason, facts, isKept: `${IS_OPEN} OR ${IS_SETTLED}` });
}

/** As `park`, but with the new reason and facts also when it is parked already. */
export async function parkAnew(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
  facts: ParkedFacts,
): Promise<void> {
  await write(executor, { kind, reference, reason, facts, isKept: IS_SETTLED });
}

interface Entry {
  kind: ParkedKind;
  reference: string;
  reason: string;
  facts: ParkedFacts;
  /** A condition in SQL: the entry keeps its reason, facts and first time. */
  isKept: string;
}

/** Writes the entry, and an event where it becomes parked: it is new, or was settled before. */
async function write(executor: Executor, written: Entry): Promise<void> {
  const entry = cutEntry(written);
  await atomically(executor, async (connection) => {
    const before = await lockEntry(connection, entry);
    await upsert(connection, entry);
    const after = await readEntry(connection, entry);
    if (!before.isOpen && after.isOpen) await recordParkedOpened(connection, after.parkedId, entry);
  });
}

/** Locks the entry's row. Where there is none it makes one, settled, so that rivals wait for this caller. */
async function lockEntry(connection: PoolConnection, entry: Entry): Promise<OpenOrNot> {
  await modify(
    connection,
    `INSERT INTO parked (kind, reference, reason, resolved_at) VALUES (?, ?, '', NOW(3))
     ON DUPLICATE KEY UPDATE parked_id = parked_id`,
    [entry.kind, entry.reference],
  );
  return readEntry(connection, entry);
}

const openRow = z
  .object({ parked_id: z.int(), is_open: z.int() })
  .transform((row) => ({ parkedId: row.parked_id, isOpen: row.is_open === 1 }));
type OpenOrNot = z.infer<typeof openRow>;

async function readEntry(connection: PoolConnection, { kind, reference }: Entry): Promise<OpenOrNot> {
  const [row] = await selectRows(
    connection,
    openRow,
    `SELECT parked_id, ${IS_OPEN} AS is_open FROM parked WHERE kind = ? AND reference = ?`,
    [kind, reference],
  );
  assert(row, `parked ${kind} ${reference} is gone although its row is locked`);
  return row;
}

/**
 * Each assignment sees those before it. The columns that the condition reads come last, `settled_by` first
 * of them: without it the condition is false for the others as well.
 */
async function upsert(
  connection: PoolConnection,
  { kind, reference, reason, facts, isKept }: Entry,
): Promise<void> {
  await modify(
    connection,
    `INSERT INTO parked (kind, reference, reason, cause, inputs, last_error, last_seen_at)
     VALUES (?, ?, ?, ?, ?, ?, NOW(3)) ON DUPLICATE KEY UPDATE
       reason = IF(${isKept}, reason, VALUES(reason)),
       parked_at = IF(${isKept}, parked_at, NOW(3)),
       times = IF(${isKept}, times + 1, 1),
       last_error = VALUES(last_error),
       last_seen_at = NOW(3),
       settled_by = IF(${isKept}, settled_by, NULL),
       cause = IF(${isKept}, cause, VALUES(cause)),
       inputs = IF(${isKept}, inputs, VALUES(inputs)),
       resolved_at = IF(${IS_SETTLED}, resolved_at, NULL)`,
    [kind, reference, reason, facts.cause, JSON.stringify(facts.inputs), reason],
  );
}

/** Ends the parking: the rules have settled the matter. */
export function unpark(executor: Executor, kind: ParkedKind, reference: string): Promise<void> {
  return unparkAll(executor, kind, [reference]);
}

/** As `unpark`, for at least one. */
export async function unparkAll(
  executor: Executor,
  kind: ParkedKind,
  references: readonly string[],
): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET resolved_at = COALESCE(resolved_at, NOW(3)), settled_by = 'rules'
     WHERE kind = ? AND reference IN (?)`,
    [kind, references.map((reference) => cutText(reference, MAX_REFERENCE_CHARS))],
  );
}

/** Whether a payment is parked for this cause now. */
export async function isParkedFor(
  executor: Executor,
  reference: string,
  cause: ParkedFacts['cause'],
): Promise<boolean> {
  const rows = await selectRows(
    executor,
    z.object({ parked_id: z.int() }),
    `SELECT parked_id FROM parked WHERE kind = 'payment' AND reference = ? AND ${IS_OPEN} AND cause = ?`,
    [cutText(reference, MAX_REFERENCE_CHARS), cause],
  );
  return rows.length > 0;
}

/**
 * Unparks a payment whose stock decision was made. A payment that is parked for another reason stays parked.
 */
export async function resolveStockDecision(executor: Executor, reference: string): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET resolved_at = NOW(3), settled_by = 'rules'
     WHERE kind = 'payment' AND reference = ? AND ${IS_OPEN} AND RIGHT(reason, CHAR_LENGTH(?)) = ?`,
    [reference, STOCK_DECISION_PENDING, STOCK_DECISION_PENDING],
  );
}

/**
 * Notes that parked work has failed once more. Work that is not parked is left alone, and a failure that
 * comes soon after the one before is not counted.
 */
export async function noteFailure(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  error: string,
): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET last_error = ?, last_seen_at = NOW(3), times = times + 1
     WHERE kind = ? AND reference = ? AND ${IS_OPEN} AND last_seen_at < NOW(3) - INTERVAL ? SECOND`,
    [cutText(error, MAX_REASON_CHARS), kind, cutText(reference, MAX_REFERENCE_CHARS), NOTE_EVERY_SECONDS],
  );
}

function cutEntry({ kind, reference, reason, facts, isKept }: Entry): Entry {
  const inputs = Object.entries(facts.inputs).map(([name, value]) => [
    name,
    typeof value === 'string' ? cutText(value, MAX_INPUT_CHARS) : value,
  ]);
  return {
    kind,
    reference: cutText(reference, MAX_REFERENCE_CHARS),
    reason: cutText(reason, MAX_REASON_CHARS),
    facts: { cause: facts.cause, inputs: Object.fromEntries(inputs) },
    isKept,
  };
}

/** JavaScript counts a character outside the basic plane as two, MySQL as one: so it always fits. */
function cutText(text: string, chars: number): string {
  return text.slice(0, chars);
}
