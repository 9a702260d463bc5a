/** What MySQL knows of the payments in a provider's book. */

import { z } from 'zod';
import type { WentBack } from '../domain/payment.ts';
import { selectRows, type Pool } from './mysql.ts';

const knownRow = z.object({
  provider_payment_id: z.string(),
  returned: z.coerce.number(),
  is_disputed: z.coerce.boolean(),
});

export function createProviderBook(pool: Pool) {
  return {
    /** @returns of those payments that are known: what is recorded as gone back, by provider payment id */
    async readWentBack(
      provider: string,
      providerPaymentIds: readonly string[],
    ): Promise<Map<string, WentBack>> {
      if (providerPaymentIds.length === 0) return new Map();
      const rows = await selectRows(
        pool,
        knownRow,
        `SELECT p.provider_payment_id, COALESCE(SUM(IF(r.status = 'succeeded', r.amount, 0)), 0) AS returned,
           COALESCE(MAX(r.kind = 'dispute' AND r.status = 'pending'), 0) AS is_disputed
         FROM payments p
         LEFT JOIN reversals r ON r.provider = p.provider AND r.provider_payment_id = p.provider_payment_id
         WHERE p.provider = ? AND p.provider_payment_id IN (?) GROUP BY p.provider_payment_id`,
        [provider, providerPaymentIds],
      );
      return new Map(
        rows.map(({ provider_payment_id: id, returned, is_disputed: isDisputed }) => [
          id,
          { returned, isDisputed },
        ]),
      );
    },
  };
}
