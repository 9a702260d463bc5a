/** An operator terminates the workflow of a dispute before Redis has it: the shopper is told all the same. */

import { expect, test } from 'vitest';
import type { OrderState } from '../../src/orders/order.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { selectOne } from '../support/rows.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import type { TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

const TIMEOUT_MS = 150_000;

/**
 * A Redis that takes no disputed order: from its workflow never, for a step of a terminated one may go on for
 * a moment, and from the reconciliation not before it is mended.
 */
function failing() {
  let [isAway, attempts] = [true, 0];
  const refuse = ({ payment }: OrderState): void => {
    if (payment !== 'disputed') return;
    attempts += 1;
    throw new Error('away');
  };
  const under = (stores: TestStores): TestStores => {
    const { reservations } = stores;
    return {
      ...stores,
      reservations: {
        ...reservations,
        project: async (orderNo, state) => {
          refuse(state);
          return reservations.project(orderNo, state);
        },
        projectAll: async (orderNos, state) => {
          if (isAway) refuse(state);
          return reservations.projectAll(orderNos, state);
        },
      },
    };
  };
  return { under, attempts: () => attempts, mend: () => void (isAway = false) };
}

test(
  'a dispute whose workflow is terminated before it is projected is shown to the shopper',
  { timeout: 2 * TIMEOUT_MS },
  async () => {
    const fault = failing();
    const checkout = await openCheckout({ under: fault.under, reconcileEveryMs: 1_000 });
    try {
      const { stores, client, providerConsole } = checkout;
      const { saleId } = await stores.openSale(buildSale());
      const shopper = await checkout.shopper();
      const orderNo = await shopper.buy(saleId);
      await shopper.awaitStatus(orderNo, 'awaiting_payment');
      await pressPay(sessionOf(await shopper.pay(orderNo)).url);
      const paid = await shopper.awaitStatus(orderNo, 'paid');
      const [payment] = await providerConsole.listPayments(orderNo);
      await providerConsole.openDispute(payment?.id ?? '');
      await waitFor('a step that projects and fails', () => fault.attempts() > 0);
      const row = await selectOne(stores.pool, 'SELECT payment_id FROM payments', []);
      const workflow = client.workflow.getHandle(
        await readRefundWorkflowId(stores.pool, Number(row['payment_id'])),
      );
      await waitFor('the claim of the dispute to be completed', async () => {
        const due = await selectOne(stores.pool, 'SELECT engine_due_at FROM payments', []);
        return due['engine_due_at'] === null;
      });
      await workflow.terminate('by hand');
      expect(await shopper.readOrder(orderNo)).toMatchObject({ version: paid.version, payment: 'applied' });
      fault.mend();

      await waitFor('the dispute to be shown', async () => {
        const shown = await shopper.readOrder(orderNo);
        return shown.payment === 'disputed' && shown.version === paid.version + 1;
      });
      await expectCleanAudit(checkout);
    } finally {
      await checkout.close();
    }
  },
);
