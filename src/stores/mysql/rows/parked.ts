/**
 * Parked work: orders, payments, refunds and outbox entries that the rules could not settle, for an operator.
 */

import { modify, type Executor } from '../connection.ts';

/**
 * payment: the rules could not settle it. refund: its refund workflow keeps failing. Both refer to the
 * provider's payment id, and each is unparked only by the code that parks its kind.
 */
type ParkedKind = 'payment' | 'refund' | 'order' | 'outbox_entry';

/**
 * The end of a reason that leaves a decision to an operator: whether the units of a refunded order may be
 * sold again. Rows are found by it, so the text must stay as it is.
 */
export const STOCK_DECISION_PENDING = 'stock comes back only if you say so';

/** The width of the column. */
const MAX_REASON_CHARS = 500;

/**
 * Parks something for an operator. While it is parked, its first reason stays; parked again later, it gets a
 * new one.
 */
export async function park(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
): Promise<void> {
  await modify(
    executor,
    `INSERT INTO parked (kind, reference, reason) VALUES (?, ?, ?) ON DUPLICATE KEY UPDATE
       reason = IF(resolved_at IS NULL, reason, VALUES(reason)),
       parked_at = IF(resolved_at IS NULL, parked_at, NOW(3)),
       resolved_at = NULL`,
    [kind, reference, reason.slice(0, MAX_REASON_CHARS)],
  );
}

/** Parks with a new reason, also when it is parked already. */
export async function parkAnew(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
): Promise<void> {
  await unpark(executor, kind, reference);
  await park(executor, kind, reference, reason);
}

/** Ends the parking: the matter is settled. */
export async function unpark(executor: Executor, kind: ParkedKind, reference: string): Promise<void> {
  await modify(executor, 'UPDATE parked SET resolved_at = NOW(3) WHERE kind = ? AND reference = ?', [
    kind,
    reference,
  ]);
}

/**
 * Unparks a payment whose stock decision was made. A payment that is parked for another reason stays parked.
 */
export async function resolveStockDecision(executor: Executor, reference: string): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET resolved_at = NOW(3)
     WHERE kind = 'payment' AND reference = ? AND resolved_at IS NULL AND RIGHT(reason, CHAR_LENGTH(?)) = ?`,
    [reference, STOCK_DECISION_PENDING, STOCK_DECISION_PENDING],
  );
}
