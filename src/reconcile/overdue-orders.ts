/** Makes orders due again that should have ended long ago and have not. */

import type { Logger } from 'pino';
import type { OrderClaims } from '../stores/mysql/orders/order-claims.ts';
import type { Step } from './report.ts';

/** Rows per run, as many as suit one transaction. The next run handles the others. */
const ORDERS_MAX = 100;

export interface OverdueOrdersDeps {
  orderClaims: Pick<OrderClaims, 'requeueOverdue'>;
  log: Logger;
}

export function createOverdueOrdersStep({ orderClaims, log }: OverdueOrdersDeps): Step {
  return async () => {
    const requeued = await orderClaims.requeueOverdue(ORDERS_MAX);
    if (requeued > 0) log.warn({ requeued }, 'orders are long past their deadline');
    return { looked: requeued, repaired: requeued, parked: 0 };
  };
}
