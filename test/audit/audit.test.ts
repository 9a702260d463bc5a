import { afterAll, beforeAll, expect, test } from 'vitest';
import { auditSale, RULE_NAMES } from '../../src/audit/audit-sale.ts';
import { readSale, runAudit, type SaleAudit } from '../../src/audit/run-audit.ts';
import { saleKeys } from '../../src/stores/keys.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout();
});
afterAll(() => checkout.close());

interface Sold {
  saleId: string;
  userId: string;
  /** An order that was paid, and one that waits for its payment. */
  paid: string;
  open: string;
}

async function sellTwo(): Promise<Sold> {
  const { saleId } = await checkout.stores.openSale(buildSale());
  const shopper = await checkout.shopper();
  const [paid, open] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  await shopper.awaitStatus(paid, 'awaiting_payment');
  await pressPay(sessionOf(await shopper.pay(paid)).url);
  await shopper.awaitStatus(paid, 'paid');
  await shopper.awaitStatus(open, 'awaiting_payment');
  return { saleId, userId: shopper.userId, paid, open };
}

const audit = ({ saleId, paid, open }: Sold): Promise<SaleAudit> => runAudit(checkout, saleId, [paid, open]);

test('a sale with a paid, an open and a cancelled order is clean', async () => {
  const sold = await sellTwo();
  const shopper = await checkout.shopper();
  const cancelled = await shopper.buy(sold.saleId);
  await shopper.awaitStatus(cancelled, 'awaiting_payment');
  await shopper.cancel(cancelled);
  await shopper.awaitStatus(cancelled, 'cancelled');

  expect(await audit(sold)).toEqual({ saleId: sold.saleId, orders: 3, payments: 1, findings: [] });
});

const sql = (statement: string, ...values: unknown[]) => checkout.stores.pool.query(statement, values);
const keysOf = ({ saleId }: Sold) => saleKeys({ saleId, shard: 0 });

/** For each rule a way to break it; the second name is the order or SKU that must be found. */
const FAULTS: Record<string, (sold: Sold) => Promise<unknown>> = {
  'stock adds up': (sold) => checkout.stores.redis.hincrby(keysOf(sold).stock, 'lamp:available', 1),
  'the ledger adds up': ({ paid }) =>
    sql(`DELETE FROM stock_ledger WHERE order_no = ? AND movement = 'sell'`, paid),
  'open orders move': async ({ open, saleId }) => {
    await checkout.client.workflow.getHandle(open).terminate('deliberate fault');
    await waitFor(
      'the end to be listed',
      async () => !(await readSale(checkout, saleId, [])).running.has(open),
    );
  },
  'holds end as their orders': (sold) =>
    checkout.stores.redis.hset(keysOf(sold).order(sold.paid), 'hold', 'released'),
  'the projection is true': (sold) =>
    checkout.stores.redis.hset(keysOf(sold).order(sold.open), 'version', '9'),
  'workflows have orders': ({ open }) =>
    sql(`UPDATE orders SET status = 'cancelled' WHERE order_no = ?`, open),
  'what the provider took is known': ({ paid }) => sql('DELETE FROM payments WHERE order_no = ?', paid),
  'payments end somewhere': ({ paid }) =>
    sql(`UPDATE orders SET status = 'cancelled' WHERE order_no = ?`, paid),
  'paid orders are paid once': ({ paid }) =>
    sql(`UPDATE payments SET status = 'refund_due' WHERE order_no = ?`, paid),
  'limits are true': (sold) => checkout.stores.redis.hincrby(keysOf(sold).limits, `lamp:${sold.userId}`, -1),
};

test.each(Object.entries(FAULTS))('a deliberate fault is found: %s', async (rule, breakIt) => {
  const sold = await sellTwo();
  expect((await audit(sold)).findings).toEqual([]);

  await breakIt(sold);

  const findings = auditSale(await readSale(checkout, sold.saleId, []));
  expect(findings.map((finding) => finding.rule)).toContain(rule);
});

test('an accepted order that nobody knows is found', async () => {
  const sold = await sellTwo();
  expect((await audit(sold)).findings).toEqual([]);
  const { orderNo: lost } = buildOrder({ saleId: sold.saleId });
  const findings = auditSale(await readSale(checkout, sold.saleId, [sold.paid, lost]));
  expect(findings).toEqual([expect.objectContaining({ rule: 'accepted orders exist', subject: lost })]);
});

test('there is a deliberate fault for every rule', () => {
  expect([...Object.keys(FAULTS), 'accepted orders exist'].toSorted()).toEqual(RULE_NAMES.toSorted());
});
