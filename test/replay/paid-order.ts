/**
 * A paid order's steps as OrderWorkflow takes them, in a given sequence: the replay gate must notice a swap.
 */

import { condition, setHandler, upsertSearchAttributes } from '@temporalio/workflow';
import type { Order } from '../../src/orders/content.ts';
import { paymentReceived, searchAttributes } from '../../src/workflows/contract.ts';
import { createSteps } from '../../src/workflows/steps.ts';

type LastStep = 'markPaid' | 'confirmStock';

export async function payOrder(order: Order, lastSteps: readonly LastStep[]): Promise<void> {
  const { orderNo } = order;
  const steps = createSteps({ park: async () => {}, unpark: async () => {} });
  let paymentNoticed = false;
  setHandler(paymentReceived, () => {
    paymentNoticed = true;
  });
  await steps.storeOrder(order);
  upsertSearchAttributes([{ key: searchAttributes.status, value: 'awaiting_payment' }]);
  await condition(() => paymentNoticed, order.paymentWindowMs, { summary: 'Payment window' });
  for (const step of lastSteps) {
    await steps[step]({ orderNo });
    if (step === 'markPaid') upsertSearchAttributes([{ key: searchAttributes.status, value: 'paid' }]);
  }
}
