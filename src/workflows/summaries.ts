/** Under which words the Web UI shows the steps and timers of the workflows. */

import type { ClosingReason } from '../domain/order.ts';

export const SUMMARIES = {
  storeOrder: 'Store the order',
  abandonOrder: 'Abandon the order',
  paymentWindow: 'Payment window',
  markPaid: 'Mark paid',
  cancelOrder: ({ reason }: { reason: ClosingReason }) => `Cancel: ${reason}`,
  closeSessions: 'Close payment sessions',
  confirmStock: 'Held stock becomes sold',
  releaseStock: 'Release the stock',
  refundPayment: 'Refund the payment',
  refundPending: 'Refund pending at the provider',
  parkRefund: 'Show the refund to an operator',
  unparkRefund: 'Take the refund off the list',
  giveBack: 'Limit and stock come back',
};
