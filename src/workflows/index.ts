/** The workflows of the bundle. */

export { OrderWorkflow } from './order.ts';
export { RefundWorkflow } from './refund.ts';
