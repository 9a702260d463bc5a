/** The audit of refunds and chargebacks: it is clean for each correct one, and finds each incorrect one. */

import { beforeAll, expect, test } from 'vitest';
import type { SandboxConsole } from '../../sandbox/console.ts';
import type { SaleSnapshot } from '../../src/audit/look.ts';
import { auditSale, auditStrayMoney, runAudit } from '../../src/audit/run-audit.ts';
import type { RefundReason } from '../../src/money/payment.ts';
import type { OrderState } from '../../src/orders/order.ts';
import { refundWorkflowId } from '../../src/workflows/contract.ts';
import { readSale } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildSale } from '../support/factories.ts';
import { readRefundWorkflowId } from '../support/refund-workflow.ts';
import { selectOne } from '../support/rows.ts';
import { waitFor } from '../support/wait.ts';

let checkout: Checkout;
let providerConsole: SandboxConsole;
let orders: Awaited<ReturnType<typeof sellAndGiveBack>>;
let sale: SaleSnapshot;

beforeAll(async () => {
  checkout = await openCheckout();
  ({ providerConsole } = checkout);
  orders = await sellAndGiveBack();
  expect((await runAudit(checkout, orders.saleId, [])).findings).toEqual([]);
  sale = await readSale(checkout, orders.saleId, []);
});

async function paidOrder(saleId: string) {
  const bought = await checkout.buyAndPay(saleId);
  const { orderNo } = bought;
  return {
    orderNo,
    paymentId: await checkout.paymentIdOf(bought),
    money: await checkout.providerPaymentOf(bought),
  };
}

const shows = (orderNo: string, payment: OrderState['payment']) =>
  waitFor(
    `order ${orderNo} to show ${payment}`,
    async () => (await checkout.stores.orders.read(orderNo))?.state.payment === payment,
  );

/** One order for each way in which money goes back. */
async function sellAndGiveBack() {
  const { refunds, pool } = checkout.stores;
  const { saleId } = await checkout.stores.openSale(buildSale());
  const [wanted, byStaff, partly, disputed, lost, won, twice] = await Promise.all([
    paidOrder(saleId),
    paidOrder(saleId),
    paidOrder(saleId),
    paidOrder(saleId),
    paidOrder(saleId),
    paidOrder(saleId),
    paidOrder(saleId),
  ]);

  await refunds.request(wanted.paymentId, 'an operator');
  await providerConsole.refund(byStaff.money);
  await providerConsole.refund(partly.money, 1_000);
  await providerConsole.openDispute(disputed.money);
  await providerConsole.closeDispute((await providerConsole.openDispute(lost.money)).id, { won: false });
  const dispute = await providerConsole.openDispute(won.money);
  await shows(won.orderNo, 'disputed');
  await providerConsole.closeDispute(dispute.id, { won: true });
  await providerConsole.takeStrayPayment({ reference: twice.orderNo, amount: 4_900 });

  for (const { orderNo } of [wanted, byStaff, lost]) await shows(orderNo, 'refunded');
  await shows(disputed.orderNo, 'disputed');
  await shows(won.orderNo, 'applied');
  await refunds.returnStock(wanted.orderNo, 'an operator');
  await waitFor('the second payment to go back', async () => {
    const sql = `SELECT COUNT(*) AS n FROM payments WHERE order_no = ? AND status = 'refunded'`;
    return Number((await selectOne(pool, sql, [twice.orderNo]))['n']) === 1;
  });
  return { saleId, wanted, byStaff, partly, disputed, lost, won, twice };
}

type Orders = typeof orders;
type Order = SaleSnapshot['mysql']['orders'][number];
type Payment = SaleSnapshot['mysql']['payments'][number];

const withMysql = (mysql: Partial<SaleSnapshot['mysql']>): SaleSnapshot => ({
  ...sale,
  mysql: { ...sale.mysql, ...mysql },
});

const withOrder = (which: keyof Omit<Orders, 'saleId'>, change: Partial<Order>): SaleSnapshot =>
  withMysql({
    orders: sale.mysql.orders.map((order) =>
      order.orderNo === orders[which].orderNo ? { ...order, ...change } : order,
    ),
  });

/** As `withOrder`, with a change of each of its lines. */
const withUnits = (
  which: keyof Omit<Orders, 'saleId'>,
  line: Partial<Order['items'][number]>,
): SaleSnapshot => {
  const items = sale.mysql.orders
    .find(({ orderNo }) => orderNo === orders[which].orderNo)
    ?.items.map((item) => ({ ...item, ...line }));
  return withOrder(which, { ...(items && { items }) });
};

const withPayment = (
  which: keyof Omit<Orders, 'saleId'>,
  change: (payment: Payment) => Partial<Payment>,
): SaleSnapshot =>
  withMysql({
    payments: sale.mysql.payments.map((payment) =>
      payment.paymentId === orders[which].paymentId ? { ...payment, ...change(payment) } : payment,
    ),
  });

const withCollected = (
  which: keyof Omit<Orders, 'saleId'>,
  returned: number,
  isMixed = false,
): SaleSnapshot => ({
  ...sale,
  collected: sale.collected.map((payment) =>
    payment.providerPaymentId === orders[which].money ? { ...payment, returned, isMixed } : payment,
  ),
});

const abandoned = { status: 'refund_due', isDue: false } as const;

const rulesOf = (snapshot: SaleSnapshot): string[] => auditSale(snapshot).map(({ rule }) => rule);

/** What is changed about the sale, and the rules that find it. */
const FAULTS: Record<string, [() => SaleSnapshot, string[]]> = {
  'stock that came back, and MySQL does not say so': [
    () => withUnits('wanted', { stockReturned: 0 }),
    ['orders account for the stock', 'restocked units are returned'],
  ],
  'stock that never came back': [
    () => withUnits('byStaff', { stockReturned: 1 }),
    ['orders account for the stock', 'restocked units are returned'],
  ],
  'an allowance that came back, and MySQL does not say so': [
    () => withUnits('lost', { limitReturned: 0 }),
    ['limits are true'],
  ],
  'an allowance that never came back': [() => withUnits('partly', { limitReturned: 1 }), ['limits are true']],
  'a refunded order that nothing had paid': [
    () => withPayment('byStaff', () => ({ wasApplied: false })),
    ['paid orders are paid once', 'orders show their money'],
  ],
  'an order paid by two payments': [
    () => withMysql({ payments: sale.mysql.payments.map((payment) => ({ ...payment, wasApplied: true })) }),
    ['paid orders are paid once'],
  ],
  'an order paid in another currency': [
    () => withPayment('partly', () => ({ currency: 'USD' })),
    ['paid orders are paid once', 'what went back is known', 'the books balance'],
  ],
  'a refunded order that shows its money': [
    () => withOrder('lost', { payment: 'applied' }),
    ['orders show their money'],
  ],
  'an open chargeback that does not show': [
    () => withOrder('disputed', { payment: 'applied' }),
    ['orders show their money'],
  ],
  'a part that went back and is not shown': [
    () => withOrder('partly', { payment: 'applied' }),
    ['orders show their money'],
  ],
  'a part that went back, shown as all': [
    () => withOrder('partly', { payment: 'refunded' }),
    ['orders show their money'],
  ],
  'a refund that is never made': [() => withPayment('twice', () => abandoned), ['payments end somewhere']],
  'a refunded payment without a refund': [
    () => withPayment('wanted', () => ({ reversals: [] })),
    ['payments end somewhere', 'what went back is known'],
  ],
  'a refund that is recorded as pending, and was made': [
    () =>
      withPayment('wanted', ({ reversals }) => ({
        reversals: reversals.map((reversal) => ({ ...reversal, status: 'pending' })),
      })),
    ['payments end somewhere', 'what went back is known'],
  ],
  'a part that went back in another currency': [
    () =>
      withPayment('partly', ({ reversals }) => ({
        reversals: reversals.map((reversal) => ({ ...reversal, currency: 'USD' })),
      })),
    ['what went back is known'],
  ],
  'a cent that went back without a record': [
    () => withCollected('partly', 1_001),
    ['what went back is known', 'the books balance'],
  ],
  'something that went back in another currency without a record': [
    () => withCollected('partly', 1_000, true),
    ['what went back is known'],
  ],
  'more that went back than was collected': [
    () => withCollected('byStaff', 4_901),
    ['what went back is known', 'money was kept for something', 'the books balance'],
  ],
  'money that counts as applied, and went back': [
    () => withPayment('byStaff', () => ({ status: 'applied' })),
    ['money was kept for something', 'orders show their money'],
  ],
  'money that counts as refunded, and was kept in part': [
    () => withPayment('partly', () => ({ status: 'refunded' })),
    ['money was kept for something', 'payments end somewhere', 'the books balance'],
  ],
  'an order that lost its own money to its second payment': [
    () => withPayment('wanted', () => ({ reason: 'duplicate_payment' satisfies RefundReason })),
    ['money was kept for something'],
  ],
  'refunds and chargebacks that were never shown to an operator': [
    () => withMysql({ everParked: new Set() }),
    ['reversed money of a paid order is shown'],
  ],
};

test.each(Object.entries(FAULTS))('the audit finds %s', (_, [change, rules]) => {
  expect(rulesOf(change())).toEqual(expect.arrayContaining(rules));
});

test('a refund that is due, or whose workflow runs, is on its way', () => {
  expect(rulesOf(withPayment('twice', () => ({ ...abandoned, isDue: true })))).not.toContain(
    'payments end somewhere',
  );
  const refunding = new Set([
    refundWorkflowId({ provider: 'sandbox', providerPaymentId: orders.twice.money }),
  ]);
  const running = { ...withPayment('twice', () => abandoned), refunding };
  expect(rulesOf(running)).not.toContain('payments end somewhere');
});

test('what an operator requested, and a chargeback that the shop has won, need not be shown', () => {
  const rule = 'reversed money of a paid order is shown';
  const subjects = auditSale(withMysql({ everParked: new Set() }))
    .filter((finding) => finding.rule === rule)
    .map(({ subject }) => subject);
  const { byStaff, partly, disputed, lost } = orders;
  expect(subjects.toSorted()).toEqual([byStaff, partly, disputed, lost].map(({ money }) => money).toSorted());
});

/** Waits until the callback has come, and what it may have started is over, also in Temporal's listing. */
async function comeToRest(paymentId: number, money: string): Promise<void> {
  const { pool } = checkout.stores;
  const { workflow } = checkout.client;
  await waitFor('the callback', async () => {
    const received = `SELECT COUNT(*) AS n FROM payment_events WHERE kind = 'payment_reversed' AND raw_body LIKE ?`;
    const due = 'SELECT COUNT(*) AS n FROM payments WHERE payment_id = ? AND engine_due_at IS NOT NULL';
    const isReceived = Number((await selectOne(pool, received, [`%${money}%`]))['n']) > 0;
    return isReceived && Number((await selectOne(pool, due, [paymentId]))['n']) === 0;
  });
  const workflowId = await readRefundWorkflowId(pool, paymentId);
  await workflow.getHandle(workflowId).result();
  await waitFor('the end to be listed', async () => {
    const query = `WorkflowId = '${workflowId}' AND ExecutionStatus = 'Running'`;
    return (await workflow.count(query)).count === 0;
  });
}

test('stray money that goes back is audited like any other', async () => {
  const { refunds, pool } = checkout.stores;
  const strays = async (settleMs?: number) =>
    (await auditStrayMoney(checkout, settleMs)).findings.map(({ rule }) => rule);
  const read = () =>
    selectOne(
      pool,
      `SELECT payment_id AS id, provider_payment_id AS money, status FROM payments WHERE order_no = 'November'`,
    );
  await providerConsole.takeStrayPayment({ reference: 'November', amount: 80_000 });
  await waitFor('the money to be known', async () => (await read().catch(() => undefined)) !== undefined);
  const { id, money } = await read();
  expect(await strays()).toEqual([]);

  await refunds.request(Number(id), 'an operator');
  await waitFor('the refund', async () => (await read())['status'] === 'refunded');
  expect(await strays()).toEqual([]);
  await comeToRest(Number(id), String(money));

  await pool.query('DELETE FROM reversals WHERE provider_payment_id = ?', [money]);
  expect(await strays(0)).toEqual(['payments end somewhere', 'what went back is known']);
  await pool.query(`UPDATE payments SET status = 'refund_due', engine_due_at = NULL WHERE payment_id = ?`, [
    id,
  ]);
  expect(await strays(0)).toContain('payments end somewhere');
});
