/** The workflows of the bundle. */

export { CallOffWorkflow } from './call-off.ts';
export { OrderWorkflow } from './order.ts';
export { ReconcileWorkflow } from './reconcile.ts';
export { RefundWorkflow } from './refund.ts';
