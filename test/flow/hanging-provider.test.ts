/** A provider that takes calls and never answers: nothing but what needs its answer waits for it. */

import { expect, onTestFinished, test } from 'vitest';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { REFUND_WORKFLOW } from '../../src/workflows/contract.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
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
  const shop = await openCheckout({
    stores: { ENGINE_BUDGET },
    inFront: (provider): PaymentProvider => ({
      ...provider,
      listReversals: hangs(provider.listReversals),
      voidSession: hangs(provider.voidSession),
    }),
  });
  onTestFinished(gate.open);
  const { stores, client, providerConsole } = shop;
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: LAMP_PRICE, total: 50, limitPerUser: null }];
  const { saleId } = await stores.openSale(buildSale({ skus }));
  const late = await shop.buyAndCancel(saleId);

  for (let i = 0; i < REFUNDS; i += 1)
    await providerConsole.takeStrayPayment({ reference: late.orderNo, amount: LAMP_PRICE });

  await waitFor('the provider to be asked as often as may be', () => asked === 10);
  await waitFor('all refunds to have begun', async () => {
    let running = 0;
    const query = `WorkflowType = '${REFUND_WORKFLOW}' AND ExecutionStatus = 'Running'`;
    for await (const _ of client.workflow.list({ query })) running += 1;
    return running === REFUNDS;
  });
  await waitFor('the slots of the engine', async () => (await stores.budget.room()) === ENGINE_BUDGET);
  await shop.buyAndPay(saleId);
  await shop.buyAndCancel(saleId);
  expect(asked).toBe(10);

  gate.open();

  await shop.awaitMoney(
    late,
    Array.from({ length: REFUNDS }, () => [LAMP_PRICE, LAMP_PRICE]),
  );
});
