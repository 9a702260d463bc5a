/** The order workflow with a step more at its beginning: it cannot go on with an order that began without. */

import { upsertMemo } from '@temporalio/workflow';
import type { Order } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { OrderWorkflow as asItIs } from '../../src/workflows/order.ts';

export async function OrderWorkflow(order: Order): Promise<OrderState> {
  upsertMemo({ code: 'changed' });
  return asItIs(order);
}
