/** Rows of `reversals`: refunds and chargebacks, as the provider told of them in any order. */

import { z } from 'zod';
import { REVERSAL_STATUSES, type Reversal } from '../../../domain/payment.ts';
import { modify, selectRows, type Executor, type PoolConnection } from '../connection.ts';

/** @returns those that were news */
export async function upsertReversals(
  connection: PoolConnection,
  provider: string,
  reversals: readonly Reversal[],
): Promise<Reversal[]> {
  const news: Reversal[] = [];
  for (const reversal of reversals) {
    // A status has a rank, and only a greater one applies. The amount goes first: it looks at the status from before.
    const changed = await modify(
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
    if (changed > 0) news.push(reversal);
  }
  return news;
}

const reversalRow = z
  .object({
    kind: z.enum(['refund', 'dispute']),
    provider_reversal_id: z.string(),
    provider_payment_id: z.string(),
    amount: z.int(),
    currency: z.string(),
    status: z.enum(REVERSAL_STATUSES),
  })
  .transform(
    ({ provider_reversal_id: providerReversalId, provider_payment_id: providerPaymentId, ...rest }) => ({
      ...rest,
      providerReversalId,
      providerPaymentId,
    }),
  );

const SELECT = `SELECT kind, provider_reversal_id, provider_payment_id, amount, currency, status
  FROM reversals FORCE INDEX (reversals_of_payment) WHERE provider = ? AND provider_payment_id = ?`;

/** @param which provider and provider payment id */
export function readReversals(reader: Executor, which: unknown[]): Promise<Reversal[]> {
  return selectRows(reader, reversalRow, SELECT, which);
}

/** Waits for a transaction that writes one of them. In a small table another index could be chosen, and all of the provider's rows locked. */
export function lockReversals(connection: PoolConnection, which: unknown[]): Promise<Reversal[]> {
  return selectRows(connection, reversalRow, `${SELECT} FOR UPDATE`, which);
}
