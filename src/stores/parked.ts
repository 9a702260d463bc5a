/** Work that needs a person: an order, a payment or an outbox entry that the rules could not settle. */

import { modify, type Executor } from './mysql.ts';

type ParkedKind = 'payment' | 'order' | 'outbox_entry';

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

/** It has settled after all. */
export async function unpark(executor: Executor, kind: ParkedKind, reference: string): Promise<void> {
  await modify(executor, 'UPDATE parked SET resolved_at = NOW(3) WHERE kind = ? AND reference = ?', [
    kind,
    reference,
  ]);
}
