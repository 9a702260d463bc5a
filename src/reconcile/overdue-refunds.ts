/** Makes refunds due again that nothing has moved for an hour. */

import type { Logger } from 'pino';
import type { RefundClaims } from '../stores/mysql/money/refund-claims.ts';
import type { Step } from './report.ts';

/** Rows per run, as many as suit one transaction. The next run handles the others. */
const REFUNDS_MAX = 100;

export interface OverdueRefundsDeps {
  refundClaims: Pick<RefundClaims, 'requeueOverdue'>;
  log: Logger;
}

export function createOverdueRefundsStep({ refundClaims, log }: OverdueRefundsDeps): Step {
  return async () => {
    const requeued = await refundClaims.requeueOverdue(REFUNDS_MAX);
    if (requeued > 0) log.warn({ requeued }, 'refunds have not moved for an hour');
    return { looked: requeued, repaired: requeued, parked: 0 };
  };
}
