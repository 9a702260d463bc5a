/** The workflows of the bundle. */

export { OrderWorkflow } from './order.ts';
