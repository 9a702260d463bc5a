/** What an operator may do by hand to a refund whose money is back, and whose stock and limit are not. */

import { expect, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { select, selectOne } from '../support/rows.ts';
import { JWT_SECRET, pressPay, send, sessionOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import type { TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

const TIMEOUT_MS = 150_000;

/** Redis and MySQL, one of which fails whenever a refund gives back, until it is mended. */
function failing(at: 'before it is booked' | 'after it is booked') {
  let [isAway, attempts] = [true, 0];
  const unlessAway = async <T>(work: () => Promise<T>): Promise<T> => {
    if (!isAway) return work();
    attempts += 1;
    throw new Error('away');
  };
  const under = (stores: TestStores): TestStores => {
    const { refunds, reservations } = stores;
    return at === 'before it is booked'
      ? {
          ...stores,
          refunds: { ...refunds, bookGiveBacks: (id) => unlessAway(() => refunds.bookGiveBacks(id)) },
        }
      : {
          ...stores,
          reservations: {
            ...reservations,
            giveBack: (given) => unlessAway(() => reservations.giveBack(given)),
          },
        };
  };
  return { under, attempts: () => attempts, mend: () => void (isAway = false) };
}

async function refundAsStaff({ url }: Checkout, orderNo: string, body: object): Promise<void> {
  const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
  const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'once' };
  const asked = await send(`${url}/v1/admin/orders/${orderNo}/refunds`, 'POST', { headers, body });
  expect(asked.status).toBe(202);
}

test.each([
  { what: 'a whole refund', body: { restock: true }, left: 0, at: 'after it is booked' },
  {
    what: 'a refund of one of two lamps',
    body: { lines: [{ sku: 'lamp', quantity: 1 }], restock: true },
    left: 1,
    at: 'before it is booked',
  },
] as const)(
  '$what whose workflow is terminated $at gives stock and limit back',
  { timeout: 2 * TIMEOUT_MS },
  async ({ body, left, at }) => {
    const fault = failing(at);
    const checkout = await openCheckout({ under: fault.under, reconcileEveryMs: 1_000 });
    try {
      const { stores, client, providerConsole } = checkout;
      const { saleId } = await stores.openSale(buildSale());
      const shopper = await checkout.shopper();
      const orderNo = await shopper.buy(saleId, 'lamp', 2);
      await shopper.awaitStatus(orderNo, 'awaiting_payment');
      await pressPay(sessionOf(await shopper.pay(orderNo)).url);
      await shopper.awaitStatus(orderNo, 'paid');
      // No notice of the provider may start the workflow again.
      await providerConsole.setMischief({ drop: 1 });
      await refundAsStaff(checkout, orderNo, body);
      await waitFor('a step that gives back and fails', () => fault.attempts() > 0);
      const row = await selectOne(stores.pool, 'SELECT payment_id FROM payments', []);
      const paymentId = Number(row['payment_id']);
      const workflow = client.workflow.getHandle(await readRefundWorkflowId(stores.pool, paymentId));
      await waitFor('the claim of the refund to be completed', async () => {
        const due = await selectOne(stores.pool, 'SELECT engine_due_at FROM payments', []);
        return due['engine_due_at'] === null;
      });
      await workflow.terminate('by hand');
      // Not sooner: a step of the terminated workflow may go on for a moment.
      const repairs = "SELECT subject FROM audit_log WHERE action = 'workflow_lost'";
      await waitFor('the repair', async () => (await select(stores.pool, repairs, [])).length > 0);
      fault.mend();

      await expectStock(stores, saleId, { sku: 'lamp', available: 10 - left, held: 0, sold: left });
      // The limit is two: as many as went back may be bought again.
      await shopper.buy(saleId, 'lamp', 2 - left);
      expect(await select(stores.pool, repairs, [])).toEqual([{ subject: `payment ${paymentId}` }]);
      await waitFor('an end of the refund', async () => {
        const { status } = await workflow.describe();
        return status.name === 'COMPLETED';
      });
      expect(
        await select(stores.pool, 'SELECT kind, reason FROM parked WHERE resolved_at IS NULL', []),
      ).toEqual([]);
      await expectCleanAudit(checkout);
    } finally {
      await checkout.close();
    }
  },
);
