/** Replays a recorded paid order: the same steps in the same order. */

import type { Order } from '../../src/orders/content.ts';
import { payOrder } from './paid-order.ts';

export function OrderWorkflow(order: Order): Promise<void> {
  return payOrder(order, ['markPaid', 'confirmStock']);
}
