/**
 * What the workflows share with the code that starts, signals and queries them: names, ids, signals, queries,
 * types.
 */

import { defineSearchAttributeKey, SearchAttributeType } from '@temporalio/common';
import { defineQuery, defineSignal, type Sinks } from '@temporalio/workflow';
import type { ClosingReason, OrderState } from '../orders/order.ts';
import type { CallOffTerms } from '../sales/calling-off.sql.ts';

export interface StepReport {
  /** Things the step looked at. */
  looked: number;
  /** Inconsistencies that it mended. */
  repaired: number;
  /** Inconsistencies that the rules could not settle, and that an operator now sees. */
  parked: number;
}

/** Unless `TEMPORAL_TASK_QUEUE` names another, as a second deployment in one namespace must. */
export const TASK_QUEUE = 'orders';
/** Of the steps that call the payment provider: one that hangs takes no slot of the other steps' workers. */
export const PAYMENTS_QUEUE = 'payments';

export function paymentsQueueOf(taskQueue: string): string {
  return beside(taskQueue, PAYMENTS_QUEUE);
}

/** The plain name where the queue has its usual one, so that what began before there was a choice goes on. */
function beside(taskQueue: string, name: string): string {
  return taskQueue === TASK_QUEUE ? name : `${taskQueue}-${name}`;
}

/**
 * Started with the accepted `Order`, under its orderNo as the workflow id, and, where MySQL has the order
 * already, with its `OrderState` there as the second argument; returns how the order ended. With a state it
 * does not store the order, so the caller also marks the order's workflow as started. A workflow
 * that is started again gets an `OrderWindow` as the third.
 */
export const ORDER_WORKFLOW = 'OrderWorkflow';

/** What an earlier run of the order's workflow has left of its payment window. */
export interface OrderWindow {
  /** Unix time in ms. */
  endsAtMs: number;
}

/** A payment has paid for the order in MySQL: a nudge to read it there. */
export const paymentReceived = defineSignal('paymentReceived');

export interface CancelRequest {
  reason: ClosingReason;
}
/** Sent by hand it may come with anything or nothing. */
export const cancelRequested = defineSignal<[(Partial<CancelRequest> | null)?]>('cancelRequested');

export const statusQuery = defineQuery<OrderState>('status');

/** What the worker does outside the sandbox for a workflow; each call may be lost, or come twice. */
export interface EngineSinks extends Sinks {
  engineBudget: {
    /**
     * The workflow has acted, so the slot of this order or refund is free. A slot that is not released
     * expires, as it is a lease.
     */
    release(workflowId: string): void;
  };
}

/** By these the Web UI lists and filters orders. They must exist in the namespace. */
export const searchAttributes = {
  status: defineSearchAttributeKey('OrderStatus', SearchAttributeType.KEYWORD),
  userId: defineSearchAttributeKey('UserId', SearchAttributeType.KEYWORD),
  saleId: defineSearchAttributeKey('SaleId', SearchAttributeType.KEYWORD),
};

/**
 * The type of persistOrder's failure when the order can never be stored; its only detail is the
 * `FailureReason`.
 */
export const ORDER_REFUSED = 'OrderRefused';

/** The type of a step's failure that waits for a pause which the provider, or its pace, asks for. */
export const PROVIDER_BUSY = 'ProviderBusy';

/**
 * Started with a `RefundInput` under `refundWorkflowId`; ends when the payer has the money back, and limit
 * and stock are settled.
 */
export const REFUND_WORKFLOW = 'RefundWorkflow';

/** What a payment is for good; MySQL's own number of it may be given again after commits were lost. */
export interface PaymentName {
  provider: string;
  providerPaymentId: string;
}

export interface RefundInput {
  /** Of the `payments` table. */
  paymentId: number;
  /** A run that began before payments were named has the number alone. */
  provider?: string | undefined;
  providerPaymentId?: string | undefined;
}

export function refundWorkflowId({ provider, providerPaymentId }: PaymentName): string {
  return `refund-${provider}-${providerPaymentId}`;
}

/** A nudge to look at the provider: something about the refund has changed. */
export const refundUpdated = defineSignal('refundUpdated');

/**
 * Started with a `CallOffInput` under `callOffWorkflowId`; ends when all orders of what was called off are
 * cancelled or refunded, but for those that are listed.
 */
export const CALL_OFF_WORKFLOW = 'CallOffWorkflow';

export interface CallOffInput {
  /** Of `calling_offs`: a ULID, so no other deployment has it. */
  jobId: string;
  /** By these a job is written again that MySQL has lost; a run from before they were given has none. */
  terms?: CallOffTerms | undefined;
}

export function callOffWorkflowId({ jobId }: Pick<CallOffInput, 'jobId'>): string {
  return `call-off-${jobId}`;
}

/** Started by the schedule; returns the outcome of each step of the reconciliation by its name. */
export const RECONCILE_WORKFLOW = 'ReconcileWorkflow';
/** The schedule's id, and the beginning of its workflows' ids, where the task queue has its usual name. */
export const RECONCILE_SCHEDULE = 'reconcile';

export function reconcileScheduleOf(taskQueue: string): string {
  return beside(taskQueue, RECONCILE_SCHEDULE);
}

export type StepOutcome = StepReport | { failed: string };
