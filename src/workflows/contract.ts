/** What the order workflow and those who talk to it agree upon: names, ids, signals, queries, types. */

import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import { defineQuery, defineSignal } from '@temporalio/workflow';
import type { ClosingReason, OrderState } from '../domain/order.ts';

export const TASK_QUEUE = 'orders';

/** Started with the accepted `Order`, under its orderNo as the workflow id; answers how the order ended. */
export const ORDER_WORKFLOW = 'OrderWorkflow';

/** A nudge to look into the payment inbox; the inbox is the truth. */
export const paymentReceived = defineSignal('paymentReceived');

export interface CancelRequest {
  reason: ClosingReason;
}
export const cancelRequested = defineSignal<[CancelRequest]>('cancelRequested');

export const statusQuery = defineQuery<OrderState>('status');

/** So that the Web UI reads like an order book. They must exist in the namespace. */
export const searchAttributes = {
  status: defineSearchAttributeKey('OrderStatus', SearchAttributeType.KEYWORD),
  userId: defineSearchAttributeKey('UserId', SearchAttributeType.KEYWORD),
  saleId: defineSearchAttributeKey('SaleId', SearchAttributeType.KEYWORD),
};

/** The failure type with which persistOrder says "never"; its only detail is the `FailureReason`. */
export const ORDER_REFUSED = 'OrderRefused';

/** Started with a `RefundInput` under `refund-<paymentId>`; ends when the payer has the money back. */
export const REFUND_WORKFLOW = 'RefundWorkflow';

export interface RefundInput {
  /** Of the `payments` table. */
  paymentId: number;
}

export function refundWorkflowId(paymentId: number): string {
  return `refund-${paymentId}`;
}

/** A nudge: the provider has told something about the refund. */
export const refundUpdated = defineSignal('refundUpdated');
