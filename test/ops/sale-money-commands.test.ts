/** The command line: refunds by order, in full and in part, and the settlement of a sale. */

import { beforeAll, describe, expect, test } from 'vitest';
import { openApi } from '../api/open-api.ts';
import { acceptOrder } from '../support/accept-order.ts';
import { buildOrder, buildSale } from '../support/factories.ts';
import { openOps, type Ops } from '../support/ops.ts';
import { buildPayment, buildReversal, reverse } from '../support/payment-notices.ts';
import { select } from '../support/rows.ts';
import type { TestStores } from '../support/stores.ts';

const BECAUSE = ['--reason', 'ticket 4711'];

let stores: TestStores;
let saleId: string;
let ops: Ops;
beforeAll(async () => {
  const api = await openApi();
  ({ stores } = api);
  ({ saleId } = await stores.openSale(buildSale()));
  ops = openOps(stores, { HOLDFAST_URL: api.url });
});

/** Two lamps of 49.00 each. */
async function buyTwo() {
  const sale = await stores.openSale(buildSale());
  const order = await acceptOrder(stores, sale.saleId, { items: [{ sku: 'lamp', quantity: 2 }] });
  await stores.orders.storeOrder(order, 'started');
  const payment = buildPayment(order);
  await stores.payments.record('sandbox', payment);
  return { order, payment, orderNo: order.orderNo };
}

const refundsOf = (orderNo: string) =>
  select(
    stores.pool,
    'SELECT amount, items, restock, restores_limit, actor, reason FROM refunds WHERE order_no = ? ORDER BY refund_id',
    [orderNo],
  );

describe('refund-order', () => {
  test('sends back what lines cost, or an amount, and then all that is left', async () => {
    const { orderNo } = await buyTwo();
    const line = await ops('refund-order', orderNo, '--line', 'lamp=1', '--restock', ...BECAUSE);
    expect(line).toMatchObject({ exitCode: 0, err: '' });
    expect(line.out.replaceAll(/\s+/g, ' ')).toMatch(
      new RegExp(`^Refund \\d+ of 49.00 EUR for ${orderNo} is requested. $`),
    );
    await ops('refund-order', orderNo, '--amount', '900', ...BECAUSE);
    await ops('refund-order', orderNo, '--no-restore-limit', ...BECAUSE);
    const lamp = JSON.stringify([{ sku: 'lamp', quantity: 1 }]);
    const decided = { actor: 'olga', reason: 'ticket 4711', restock: 0, restores_limit: 1 };
    expect(await refundsOf(orderNo)).toEqual([
      { ...decided, amount: 4_900, items: lamp, restock: 1 },
      { ...decided, amount: 900, items: null },
      { ...decided, amount: 4_000, items: lamp, restores_limit: 0 },
    ]);
  });

  test('twice with the same reason is one refund, and with another reason two', async () => {
    const { orderNo } = await buyTwo();
    const ask = (why: string) => ops('refund-order', orderNo, '--amount', '500', '--reason', why);
    const [first, again] = [await ask('a scratch'), await ask('a scratch')];
    expect([first.exitCode, again.exitCode]).toEqual([0, 0]);
    expect(again.out).toContain('was requested before');
    await ask('another scratch');
    expect(await refundsOf(orderNo)).toHaveLength(2);
  });

  test.each([
    [
      ['--amount', '9801'],
      'So much of the money is not left to be refunded. (refundable 9800, currency EUR)',
    ],
    [['--line', 'lamp=3'], 'The order has not so many units left to refund. (sku lamp, refundable 2)'],
    [
      ['--line', 'no=such=sku=1'],
      'The order has not so many units left to refund. (sku no=such=sku, refundable 0)',
    ],
  ])('of more than there is, %j, is refused and changes nothing', async (options, text) => {
    const { orderNo } = await buyTwo();
    expect(await ops('refund-order', orderNo, ...options, ...BECAUSE)).toEqual({
      exitCode: 1,
      out: '',
      err: `${text}\n`,
    });
    expect(await refundsOf(orderNo)).toEqual([]);
  });

  test('of an order that is not paid, or that there is not, is refused', async () => {
    const order = await acceptOrder(stores, saleId);
    await stores.orders.storeOrder(order, 'started');
    const unpaid = await ops('refund-order', order.orderNo, ...BECAUSE);
    expect([unpaid.exitCode, unpaid.err]).toEqual([1, 'Nothing of this payment can be refunded now.\n']);
    const { orderNo } = buildOrder({ saleId });
    const unknown = await ops('refund-order', orderNo, ...BECAUSE);
    expect([unknown.exitCode, unknown.err]).toEqual([1, 'There is no such order.\n']);
  });

  test.each([
    [['--amount', '0'], 'amount: at least 1'],
    [['--amount', '12.50'], 'whole number of minor units'],
    [['--amount', '-5'], 'whole number of minor units'],
    [['--amount', '100', '--charges'], 'charges: only for lines'],
    [['--amount', '100', '--restock'], 'restock: only for lines'],
    [['--amount', '100', '--restore-limit'], 'restoreLimit: only for lines'],
    [['--line', 'lamp'], 'It looks like lamp=2'],
    [['--line', 'lamp=0'], 'It looks like lamp=2'],
    [['--line', '=1'], 'It looks like lamp=2'],
    [['--line', 'lamp=101'], 'lines.0.quantity: '],
    [['--line', 'lamp=1', '--line', 'lamp=1'], ': each SKU once'],
  ])('that contradicts itself, %j, is explained, with exit code 2', async (options, text) => {
    const { exitCode, err } = await ops(
      'refund-order',
      buildOrder({ saleId }).orderNo,
      ...options,
      ...BECAUSE,
    );
    expect([exitCode, err]).toEqual([2, expect.stringContaining(text)]);
  });
});

describe('settlement', () => {
  test('is printed as CSV, or as JSON, with its totals', async () => {
    const sale = await stores.openSale(buildSale());
    const order = buildOrder({ saleId: sale.saleId, reference: '=1+1' });
    await stores.orders.storeOrder(order, 'started');
    const payment = buildPayment(order);
    await stores.payments.record('sandbox', payment);
    await reverse(stores, buildReversal(payment, { amount: 900 }));
    const { exitCode, out } = await ops('settlement', sale.saleId);
    expect(exitCode).toBe(0);
    expect(out.split('\n').map((line) => line.split(',').slice(0, 3).join(','))).toEqual([
      'line,orderNo,reference',
      ...['order', 'payment', 'refund'].map((line) => `${line},${order.orderNo},'=1+1`),
      ...Array.from({ length: 5 }, () => 'total,,'),
      '',
    ]);
    const json = await ops('settlement', sale.saleId, '--format', 'json');
    expect(JSON.parse(json.out)).toMatchObject({
      saleId: sale.saleId,
      lines: [{ line: 'order' }, { line: 'payment', amount: 4_900 }, { line: 'refund', amount: -900 }],
      totals: [{ currency: 'EUR', paid: 4_900, refunded: 900, kept: 4_000 }],
    });
  });

  test('of a sale that there is not is refused', async () => {
    const { exitCode, out, err } = await ops('settlement', 'never-was');
    expect([exitCode, out, err]).toEqual([1, '', 'There is no such sale.\n']);
    expect((await ops('settlement', saleId, '--format', 'xml')).exitCode).toBe(2);
  });
});
