/** Work that needs a person: an order, a payment or an outbox entry that the rules could not settle. */

import { modify, type Executor } from '../connection.ts';

/**
 * payment: what the rules could not settle about it. refund: its refund workflow does not get on. Both are referred to by the
 * provider's payment id, and each is settled by whoever parked it.
 */
type ParkedKind = 'payment' | 'refund' | 'order' | 'outbox_entry';

/** How a reason ends that asks whether the units of a refunded order may be sold again. */
export const STOCK_DECISION_PENDING = 'stock comes back only if you say so';

/** As the column is. */
const MAX_REASON_CHARS = 500;

/** Leaves something to a person. While it is parked the first reason stands; parked anew, it has a new one. */
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

/** Parks with a new reason, whatever the reason was. */
export async function parkAnew(
  executor: Executor,
  kind: ParkedKind,
  reference: string,
  reason: string,
): Promise<void> {
  await unpark(executor, kind, reference);
  await park(executor, kind, reference, reason);
}

/** It has settled after all. */
export async function unpark(executor: Executor, kind: ParkedKind, reference: string): Promise<void> {
  await modify(executor, 'UPDATE parked SET resolved_at = NOW(3) WHERE kind = ? AND reference = ?', [
    kind,
    reference,
  ]);
}

/** The person has decided what they were asked. What they are shown for another reason stays. */
export async function resolveStockDecision(executor: Executor, reference: string): Promise<void> {
  await modify(
    executor,
    `UPDATE parked SET resolved_at = NOW(3)
     WHERE kind = 'payment' AND reference = ? AND resolved_at IS NULL AND RIGHT(reason, CHAR_LENGTH(?)) = ?`,
    [reference, STOCK_DECISION_PENDING, STOCK_DECISION_PENDING],
  );
}
