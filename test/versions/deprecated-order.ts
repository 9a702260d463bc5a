/** The order workflow once every order that began before the patch is over. */

import { deprecatePatch, upsertMemo } from '@temporalio/workflow';
import type { Order } from '../../src/orders/content.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { OrderWorkflow as asItIs } from '../../src/workflows/order.ts';

export async function OrderWorkflow(order: Order): Promise<OrderState> {
  deprecatePatch('one-step-more');
  upsertMemo({ code: 'changed' });
  return asItIs(order);
}
