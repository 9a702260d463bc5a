/** Reads what MySQL has recorded as gone back of payments, to be compared with the provider's list. */

import { z } from 'zod';
import type { RecordedTotals } from '../../../domain/payment.ts';
import { sumReversals } from '../../../domain/reversals.ts';
import { selectRows, type Pool } from '../connection.ts';
import { reversalColumns } from '../rows/reversal-rows.ts';

const paymentRow = z.object({
  provider_payment_id: z.string(),
  currency: z.string(),
  fee: z.int().nullable(),
});

const reversalRow = z.object({ provider_payment_id: z.string(), ...reversalColumns });

/** @returns the totals of the known ones of these payments, by provider payment id */
export async function readReversalTotals(
  pool: Pool,
  provider: string,
  providerPaymentIds: readonly string[],
): Promise<Map<string, RecordedTotals>> {
  if (providerPaymentIds.length === 0) return new Map();
  const which = [provider, providerPaymentIds];
  // Payments are read first, so that a reversal recorded in between counts. One too many only makes the
  // payment be compared once more.
  const payments = await selectRows(
    pool,
    paymentRow,
    'SELECT provider_payment_id, currency, fee FROM payments WHERE provider = ? AND provider_payment_id IN (?)',
    which,
  );
  const reversals = await selectRows(
    pool,
    reversalRow,
    `SELECT provider_payment_id, kind, amount, currency, status FROM reversals
     WHERE provider = ? AND provider_payment_id IN (?)`,
    which,
  );
  return new Map(
    payments.map(({ provider_payment_id: id, currency, fee }) => {
      const own = reversals.filter((row) => row.provider_payment_id === id);
      const { succeeded, pending } = sumReversals(
        currency,
        own.filter(({ kind }) => kind === 'refund'),
      );
      const wasDisputed = own.some(({ kind }) => kind === 'dispute');
      return [id, { ...sumReversals(currency, own), refunded: succeeded + pending, wasDisputed, fee }];
    }),
  );
}
