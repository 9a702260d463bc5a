/** A provider that takes calls and never answers: nothing but what needs its answer waits for it. */

import { expect, onTestFinished, test } from 'vitest';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { REFUND_WORKFLOW } from '../../src/workflows/contract.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { createGate } from '../support/workflows/stepper.ts';

/** More than a worker makes calls to the provider at once. */
const REFUNDS = 14;
/** Fewer than there are refunds. */
const ENGINE_BUDGET = 8;
const LAMP_PRICE = 4_900;

test('while the provider answers no refund, orders are taken, read, paid and cancelled, and all refunds begin', async () => {
  const gate = createGate();
  let asked = 0;
  const hangs = <A extends unknown[], R>(call: (...args: A) => Promise<R>) => {
    return async (...args: A): Promise<R> => {
      asked += 1;
      await gate.opened;
      return call(...args);
    };
  };
  const checkout = await openCheckout({
    stores: { ENGINE_BUDGET },
    inFront: (provider): PaymentProvider => ({
      ...provider,
      listReversals: hangs(provider.listReversals),
      voidSession: hangs(provider.voidSession),
    }),
  });
  onTestFinished(() => checkout.close());
  onTestFinished(gate.open);
  const { stores, client, providerConsole } = checkout;
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: LAMP_PRICE, total: 50, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const shopper = await checkout.shopper();
  const late = await shopper.buy(saleId);
  await shopper.awaitStatus(late, 'awaiting_payment');
  await shopper.cancel(late);
  await shopper.awaitStatus(late, 'cancelled');

  for (let i = 0; i < REFUNDS; i += 1)
    await providerConsole.takeStrayPayment({ reference: late, amount: LAMP_PRICE });

  await waitFor('the provider to be asked as often as may be', () => asked === 10);
  await waitFor('all refunds to have begun', async () => {
    let running = 0;
    const query = `WorkflowType = '${REFUND_WORKFLOW}' AND ExecutionStatus = 'Running'`;
    for await (const _ of client.workflow.list({ query })) running += 1;
    return running === REFUNDS;
  });
  await waitFor('the slots of the engine', async () => (await stores.budget.room()) === ENGINE_BUDGET);
  const [paid, cancelled] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  for (const orderNo of [paid, cancelled]) await shopper.awaitStatus(orderNo, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(paid)).url);
  await shopper.awaitStatus(paid, 'paid');
  await shopper.cancel(cancelled);
  await shopper.awaitStatus(cancelled, 'cancelled');
  expect(asked).toBe(10);

  gate.open();

  await waitFor('the money to be back', async () => {
    const payments = await providerConsole.listPayments(late);
    return payments.length === REFUNDS && payments.every(({ amount, returned }) => amount === returned);
  });
});
