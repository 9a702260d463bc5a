/** The order workflow with a step more at its beginning, for orders that begin with this code alone. */

import { patched, upsertMemo } from '@temporalio/workflow';
import type { Order } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { OrderWorkflow as asItIs } from '../../src/workflows/order.ts';

export async function OrderWorkflow(order: Order): Promise<OrderState> {
  if (patched('one-step-more')) upsertMemo({ code: 'changed' });
  return asItIs(order);
}
