/** A paid order's steps as OrderWorkflow takes them, in an order to be given: what the replay gate must tell apart. */

import { condition, setHandler, upsertSearchAttributes } from '@temporalio/workflow';
import type { Order } from '../../src/domain/order.ts';
import { paymentReceived, searchAttributes } from '../../src/workflows/contract.ts';
import { insist, orderParking, persist } from '../../src/workflows/steps.ts';

type LastStep = 'Mark paid' | 'Held stock becomes sold';

export async function payOrder(order: Order, lastSteps: readonly LastStep[]): Promise<void> {
  const { orderNo } = order;
  let moneyNoticed = false;
  setHandler(paymentReceived, () => {
    moneyNoticed = true;
  });
  await persist(order, order.reservedAtMs + order.paymentWindowMs);
  upsertSearchAttributes([{ key: searchAttributes.status, value: 'awaiting_payment' }]);
  await condition(() => moneyNoticed, order.paymentWindowMs, { summary: 'Payment window' });
  for (const step of lastSteps) {
    if (step === 'Mark paid') {
      await insist(orderParking(orderNo), step, (activities) => activities.markPaid({ orderNo }));
      upsertSearchAttributes([{ key: searchAttributes.status, value: 'paid' }]);
    } else {
      await insist(orderParking(orderNo), step, (activities) => activities.confirmStock({ orderNo }));
    }
  }
}
