/** Must not replay a recorded paid order: its last two steps are swapped. */

import type { Order } from '../../src/orders/content.ts';
import { payOrder } from './paid-order.ts';

export function OrderWorkflow(order: Order): Promise<void> {
  return payOrder(order, ['confirmStock', 'markPaid']);
}
