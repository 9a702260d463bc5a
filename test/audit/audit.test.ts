/** The audit over real stores: a correct sale is clean, and each rule finds the fault that breaks it. */

import type { RowDataPacket } from 'mysql2/promise';
import { ulid } from 'ulidx';
import { beforeAll, expect, test } from 'vitest';
import { beginLook } from '../../src/audit/look.ts';
import type { AuditedFeed } from '../../src/audit/reads.sql.ts';
import {
  auditSale,
  RULE_NAMES,
  auditStrayMoney,
  runAudit,
  type SaleAudit,
} from '../../src/audit/run-audit.ts';
import type { OrderState, OrderStatus } from '../../src/orders/order.ts';
import { park } from '../../src/parked/parked.sql.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { ageDeadline } from '../support/ageing.ts';
import { readSale } from '../support/audit.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { buildOrder, buildSale, uniqueSaleId } from '../support/factories.ts';
import { pressPay, sessionOf } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';

const HOUR_S = 60 * 60;

let checkout: Checkout;
beforeAll(async () => {
  checkout = await openCheckout();
});

interface Sold {
  saleId: string;
  userId: string;
  /** An order that was paid, and one that waits for its payment. */
  paid: string;
  open: string;
}

async function sellTwo(overrides: Partial<Sale> = {}): Promise<Sold> {
  const { saleId } = await checkout.stores.openSale(buildSale(overrides));
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

  expect(await audit(sold)).toMatchObject({ orders: 3, payments: 1, findings: [], lost: [] });
});

const sql = (statement: string, ...values: unknown[]) => checkout.stores.pool.query(statement, values);
const keysOf = ({ saleId }: Sold) => saleKeys({ saleId, shard: 0 });

/**
 * Writes to MySQL directly, past the service. Takes kind,
 * amount, status and the order whose payment it is about.
 */
const RECORD_REVERSAL = `INSERT INTO reversals (provider, provider_reversal_id, kind, provider_payment_id, amount, currency, status)
  SELECT provider, CONCAT('re_unknown_', payment_id), ?, provider_payment_id, ?, currency, ? FROM payments WHERE order_no = ?`;

/** Temporal's list is a moment behind its workflows, and the start of a workflow behind its order. */
const awaitListing = (what: string, { saleId, open }: Sold, running: boolean) =>
  waitFor(what, async () => (await readSale(checkout, saleId, [])).running.has(open) === running);

/** Until then the ender takes an order that is overdue; from then on its workflow alone ends it. */
const awaitStartNoted = (orderNo: string) =>
  waitFor('the start to be noted', async () => {
    const noted = 'SELECT 1 FROM orders WHERE order_no = ? AND workflow_started_at IS NOT NULL';
    const [rows] = await checkout.stores.pool.query<RowDataPacket[]>(noted, [orderNo]);
    return rows.length > 0;
  });

/** For each rule, a way to break what the rule checks. */
const FAULTS: Record<string, (sold: Sold) => Promise<unknown>> = {
  'stock adds up': (sold) => checkout.stores.redis.hincrby(keysOf(sold).stock, 'lamp:available', 1),
  'the ledger adds up': ({ paid }) =>
    sql(`DELETE FROM stock_ledger WHERE order_no = ? AND movement = 'sell'`, paid),
  'orders account for the stock': ({ paid }) =>
    sql('UPDATE order_items SET quantity = 2 WHERE order_no = ?', paid),
  'open orders move': async (sold) => {
    await awaitListing('the start to be listed', sold, true);
    await checkout.client.workflow.getHandle(sold.open).terminate('deliberate fault');
    await awaitListing('the end to be listed', sold, false);
  },
  'orders end in time': async ({ open }) => {
    await awaitStartNoted(open);
    await ageDeadline(checkout.stores.pool, open, HOUR_S);
  },
  // Another process would have it in its hands, and never comes back.
  'orders that never began end': async ({ open }) => {
    await awaitStartNoted(open);
    await sql(
      `UPDATE orders SET workflow_started_at = NULL, deadline = NOW(3) - INTERVAL 3 MINUTE,
         end_due_at = NOW(3) + INTERVAL 1 HOUR WHERE order_no = ?`,
      open,
    );
  },
  // As if its job had ended before it had begun.
  'what is called off is over': ({ saleId }) =>
    sql(
      `INSERT INTO calling_offs (job_id, sale_id, sku, restock, actor, ended_at) VALUES (?, ?, '', FALSE, 'grace', NOW(3))`,
      ulid(),
      saleId,
    ),
  'histories are whole': ({ paid }) =>
    sql('UPDATE order_events SET version = 99 WHERE order_no = ? AND version = 2', paid),
  'totals are the sums of their lines': ({ open }) =>
    sql(`UPDATE orders SET charges = '[{"code":"tax","name":"Tax","amount":1}]' WHERE order_no = ?`, open),
  'open orders hold stock': (sold) => checkout.stores.redis.del(keysOf(sold).order(sold.open)),
  'holds end as their orders': (sold) =>
    checkout.stores.redis.hset(keysOf(sold).order(sold.paid), 'hold', 'released'),
  'the projection is true': (sold) =>
    checkout.stores.redis.hset(keysOf(sold).order(sold.open), 'version', '9'),
  'workflows have orders': async (sold) => {
    await awaitListing('the start to be listed', sold, true);
    await sql(`UPDATE orders SET status = 'cancelled' WHERE order_no = ?`, sold.open);
  },
  'collected money is known': ({ paid }) => sql('DELETE FROM payments WHERE order_no = ?', paid),
  'known money was collected': ({ paid }) =>
    sql(
      `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status)
       VALUES ('sandbox', 'pay_unknown', ?, 4900, 'EUR', 'refund_due')`,
      paid,
    ),
  'payments end somewhere': ({ paid }) =>
    sql(`UPDATE orders SET status = 'cancelled' WHERE order_no = ?`, paid),
  'paid orders are paid once': ({ paid }) =>
    sql(`UPDATE payments SET status = 'parked', applied_at = NULL WHERE order_no = ?`, paid),
  'parked money is shown': ({ paid }) =>
    sql(`UPDATE payments SET status = 'parked' WHERE order_no = ?`, paid),
  'orders show their money': ({ open }) =>
    sql(`UPDATE orders SET payment = 'disputed' WHERE order_no = ?`, open),
  'what went back is known': ({ paid }) => sql(RECORD_REVERSAL, 'refund', 100, 'succeeded', paid),
  'money was kept for something': ({ paid }) =>
    sql(`UPDATE payments SET status = 'refunded' WHERE order_no = ?`, paid),
  'reversed money of a paid order is shown': ({ paid }) =>
    sql(RECORD_REVERSAL, 'dispute', 4_900, 'pending', paid),
  'the books balance': ({ paid }) => sql('UPDATE payments SET amount = amount + 1 WHERE order_no = ?', paid),
  'refunds are covered': ({ paid }) =>
    sql(
      `INSERT INTO refunds (order_no, payment_id, amount, target, restock, restores_limit, actor, status)
       SELECT order_no, payment_id, 1, 1, FALSE, FALSE, 'nobody', 'succeeded' FROM payments WHERE order_no = ?`,
      paid,
    ),
  'restocked units are returned': ({ paid }) =>
    sql('UPDATE order_items SET stock_returned = 1 WHERE order_no = ?', paid),
  'no change without its event': ({ open }) =>
    sql('UPDATE order_events SET sequence = 0 WHERE order_no = ?', open),
  'events keep the order of versions': ({ paid }) =>
    sql('UPDATE order_events SET sequence = sequence + 1000000 WHERE order_no = ? AND version = 1', paid),
  'limits are true': (sold) => checkout.stores.redis.hincrby(keysOf(sold).limits, `lamp:${sold.userId}`, -1),
};

// Each on a sale of its own, side by side: a listing in Temporal is a second behind.
test.concurrent.each(Object.entries(FAULTS))('a deliberate fault is found: %s', async (rule, breakIt) => {
  const sold = await sellTwo();
  expect((await audit(sold)).findings).toEqual([]);

  await breakIt(sold);

  const findings = auditSale(await readSale(checkout, sold.saleId, []));
  expect(findings.map((finding) => finding.rule)).toContain(rule);
});

test('an accepted order that no store knows is found', async () => {
  const sold = await sellTwo();
  expect((await audit(sold)).findings).toEqual([]);
  const { orderNo: lost } = buildOrder({ saleId: sold.saleId });
  const findings = auditSale(await readSale(checkout, sold.saleId, [sold.paid, lost]));
  expect(findings).toEqual([expect.objectContaining({ rule: 'accepted orders exist', subject: lost })]);
});

test('an order long past its deadline is no finding while it is shown to an operator', async () => {
  const sold = await sellTwo();
  await awaitStartNoted(sold.open);
  await ageDeadline(checkout.stores.pool, sold.open, HOUR_S);
  await checkout.stores.orders.park(sold.open, 'Mark paid: out of order', 'Mark paid');
  expect((await audit(sold)).findings).toEqual([]);
});

test('a payment that is not decided is found once its order is stored, also while the order is open', async () => {
  const sold = await sellTwo();
  const record = `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status)
    VALUES ('sandbox', ?, ?, 4900, 'EUR', 'received')`;
  const undecided = async () => {
    const findings = auditSale(await readSale(checkout, sold.saleId, []));
    return findings.flatMap(({ rule, detail }) => (rule === 'payments end somewhere' ? [detail] : []));
  };
  // Until its order is stored it waits for it, and operators see it where that takes long.
  const { orderNo: unstored } = buildOrder({ saleId: sold.saleId });
  await sql(record, `pay_of_${unstored}`, unstored);
  await park(checkout.stores.pool, 'payment', `pay_of_${unstored}`, 'nothing could be decided', {
    cause: 'undecided',
    inputs: {},
  });
  expect(await undecided()).toEqual([]);

  await sql(record, `pay_of_${sold.open}`, sold.open);

  expect(await undecided()).toEqual([`received for ${sold.open}, which is awaiting_payment`]);
});

/** With the money applied, where nothing else is said. */
type HistoryState = OrderStatus | [OrderStatus, OrderState['payment']];

test('each way in which a history can be broken is found', async () => {
  const { saleId, paid } = await sellTwo();
  const sale = await readSale(checkout, saleId, []);
  // As if it had been closing before it was paid, so that its history has three versions.
  const orders = sale.mysql.orders.map((order) =>
    order.orderNo === paid ? { ...order, version: 3 } : order,
  );
  const auditedFrom = (first: number, ...states: HistoryState[]) => {
    const history = states.map((state, i) => {
      const [status, payment] = typeof state === 'string' ? ([state, 'applied'] as const) : state;
      return { version: first + i, status, payment, reason: null, refunded: 0, sequence: 0 };
    });
    const events = new Map([...sale.mysql.events, [paid, history]]);
    return auditSale({ ...sale, mysql: { ...sale.mysql, orders, events } }).map(({ rule }) => rule);
  };
  const audited = (...states: HistoryState[]) => auditedFrom(1, ...states);
  expect(audited('awaiting_payment', 'awaiting_payment', 'paid')).not.toContain('histories are whole');
  expect(audited()).toContain('histories are whole');
  expect(audited('awaiting_payment', 'paid')).toContain('histories are whole');
  expect(audited('awaiting_payment', 'paid', 'paid')).toContain('histories are whole');
  expect(audited('awaiting_payment', 'cancelled', 'paid')).toContain('histories are whole');
  expect(audited('awaiting_payment', 'paid', 'awaiting_payment')).toContain('histories are whole');
  expect(audited('awaiting_payment', 'awaiting_payment', ['paid', 'none'])).toContain('histories are whole');
  expect(audited('awaiting_payment', ['paid', 'disputed'], 'paid')).not.toContain('histories are whole');
  // As of an order that MySQL had lost, and not of one whose first event is missing.
  expect(auditedFrom(2, ['awaiting_payment', 'none'], 'paid')).not.toContain('histories are whole');
  expect(auditedFrom(2, ['awaiting_payment', 'applied'], 'paid')).toContain('histories are whole');
  expect(auditedFrom(3, 'paid')).toContain('histories are whole');
});

test('a sale whose name another begins with has its own payments alone', async () => {
  const saleId = uniqueSaleId();
  await checkout.stores.openSale(buildSale({ saleId }));
  await sellTwo({ saleId: `${saleId}-2` });
  expect(await runAudit(checkout, saleId, [])).toEqual({
    saleId,
    orders: 0,
    payments: 0,
    paidWithoutWorkflow: 0,
    findings: [],
    lost: [],
  });
});

// The faults above have left gaps in the feed.
test('money that names no sale is found, unless it is known and shown to an operator', async () => {
  const payment = {
    providerPaymentId: 'pay_rent',
    orderNo: 'November',
    amount: 80_000,
    currency: 'EUR',
    signedOrder: null,
  };
  async function* listPayments() {
    yield { ...payment, totals: { succeeded: 0, isDisputed: false } };
  }
  const strays = async () =>
    (
      await auditStrayMoney({ ...checkout, provider: { ...checkout.provider, listPayments } }, 0)
    ).findings.flatMap(({ rule }) => (rule === 'the feed is whole' ? [] : [rule]));

  expect(await strays()).toEqual(['collected money is known', 'the books balance']);
  await checkout.stores.payments.record('sandbox', payment);
  expect(await strays()).toEqual([]);
  await sql(`UPDATE parked SET resolved_at = NOW(3) WHERE reference = 'pay_rent'`);
  expect(await strays()).toEqual(['parked money is shown']);
});

test('each way in which the feed can be broken is found', async () => {
  const strays = await (await beginLook(checkout))({ kind: 'strays' });
  const whole = { last: 3, numbered: 3, leftOut: 0, wrong: [], waiting: [], withoutEvent: [] };
  const audited = (broken: Partial<AuditedFeed>) =>
    auditSale({ ...strays, feed: { ...whole, ...broken } }).map(({ rule }) => rule);
  expect(audited({})).not.toContain('the feed is whole');
  expect(audited({})).not.toContain('what is parked has an event');
  expect(audited({ numbered: 2 })).toContain('the feed is whole');
  expect(audited({ wrong: [2] })).toContain('the feed is whole');
  expect(audited({ waiting: ['shop.7 sale.closed'] })).toContain('the feed is whole');
  expect(audited({ withoutEvent: [7] })).toContain('what is parked has an event');
});

test('there is a deliberate fault for every rule', () => {
  const others = ['accepted orders exist', 'the feed is whole', 'what is parked has an event'];
  expect([...Object.keys(FAULTS), ...others].toSorted()).toEqual(RULE_NAMES.toSorted());
});
