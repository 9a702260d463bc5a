/**
 * What is left for an operator at the end. The provider's mischief and its
 * staff make some on purpose; everything else has to settle by itself.
 */

import { z } from 'zod';
import { selectRows } from '../src/mysql/connection.ts';
import type { System } from './system.ts';

const parkedRow = z.object({
  kind: z.string(),
  reference: z.string(),
  reason: z.string(),
  is_wrong: z.coerce.boolean(),
  is_reversed: z.coerce.boolean(),
});

export interface ParkedWork {
  /** How much of it was made on purpose, by what made it. */
  onPurpose: ReadonlyMap<string, number>;
  /** Everything else: kind, reference and reason. */
  others: string[];
}

export async function readParkedWork({ stores }: Pick<System, 'stores'>): Promise<ParkedWork> {
  const rows = await selectRows(
    stores.pool,
    parkedRow,
    `SELECT k.kind, k.reference, k.reason, p.amount <> o.total AS is_wrong,
       EXISTS (SELECT 1 FROM reversals r WHERE r.provider_payment_id = k.reference) AS is_reversed
     FROM parked k LEFT JOIN payments p ON p.provider_payment_id = k.reference
       LEFT JOIN orders o ON o.order_no = p.order_no
     WHERE k.resolved_at IS NULL`,
    [],
  );
  const onPurpose = new Map<string, number>();
  const others: string[] = [];
  for (const { kind, reference, reason, is_wrong: isWrong, is_reversed: isReversed } of rows) {
    const maker = isWrong ? 'paid a wrong amount' : 'refunded or disputed at the provider';
    if (kind !== 'payment' || !(isWrong || isReversed)) others.push(`${kind} ${reference}: ${reason}`);
    else onPurpose.set(maker, (onPurpose.get(maker) ?? 0) + 1);
  }
  return { onPurpose, others };
}
