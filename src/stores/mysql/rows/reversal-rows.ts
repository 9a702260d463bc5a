/** Rows of `reversals`: refunds and disputes, which the provider may report in any order. */

import { z } from 'zod';
import { REVERSAL_STATUSES, type Reversal } from '../../../domain/payment.ts';
import { modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';
import { selectList } from '../select-list.ts';

/** @returns those that changed a row */
export async function upsertReversals(
  connection: PoolConnection,
  provider: string,
  reversals: readonly Reversal[],
): Promise<Reversal[]> {
  const changed: Reversal[] = [];
  for (const reversal of reversals) {
    // A status has a rank, and only a greater one applies. The amount is set first, because it is compared
    // with the status from before.
    const affected = await modify(
      connection,
      `INSERT INTO reversals (provider, provider_reversal_id, kind, provider_payment_id, amount, currency, status)
       VALUES (?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE
         amount = IF(FIELD(VALUES(status), ?) > FIELD(status, ?), VALUES(amount), amount),
         status = IF(FIELD(VALUES(status), ?) > FIELD(status, ?), VALUES(status), status)`,
      [
        provider,
        reversal.providerReversalId,
        reversal.kind,
        reversal.providerPaymentId,
        reversal.amount,
        reversal.currency,
        reversal.status,
        ...Array.from({ length: 4 }, () => REVERSAL_STATUSES),
      ],
    );
    if (affected > 0) changed.push(reversal);
    // A fee alone is no news of the money.
    if (reversal.fee !== undefined)
      await modify(
        connection,
        `UPDATE reversals SET fee = ? WHERE provider = ? AND provider_payment_id = ? AND kind = ?
           AND provider_reversal_id = ?`,
        [reversal.fee, provider, reversal.providerPaymentId, reversal.kind, reversal.providerReversalId],
      );
  }
  return changed;
}

/** What sums are made of. */
export const reversalColumns = {
  kind: z.enum(['refund', 'dispute']),
  amount: z.int(),
  currency: z.string(),
  status: z.enum(REVERSAL_STATUSES),
};

const reversalRow = z.object({
  ...reversalColumns,
  providerReversalId: z.string(),
  providerPaymentId: z.string(),
});

const SELECT = `SELECT ${selectList(reversalRow)}
  FROM reversals FORCE INDEX (reversals_of_payment) WHERE provider = ? AND provider_payment_id = ?`;

/** @param which provider and provider payment id */
export function readReversals(reader: Executor, which: unknown[]): Promise<Reversal[]> {
  return selectRows(reader, reversalRow, SELECT, which);
}

/**
 * Waits for a transaction that writes one of them. The statement forces its index: in a small table MySQL
 * could choose another one and lock all rows of the provider.
 */
export function lockReversals(connection: PoolConnection, which: unknown[]): Promise<Reversal[]> {
  return selectRows(connection, reversalRow, `${SELECT} FOR UPDATE`, which);
}
