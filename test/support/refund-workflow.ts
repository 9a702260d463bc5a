/** The refund workflow of a payment that is in MySQL. */

import type { Pool } from '../../src/mysql/connection.ts';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import { selectOne } from './rows.ts';

export async function readRefundWorkflowId(pool: Pool, paymentId: number): Promise<string> {
  const row = await selectOne(
    pool,
    'SELECT provider, provider_payment_id FROM payments WHERE payment_id = ?',
    [paymentId],
  );
  return refundWorkflowId({
    provider: String(row['provider']),
    providerPaymentId: String(row['provider_payment_id']),
  });
}
