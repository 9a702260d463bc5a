/** The settlement export of a sale: every line of its money, and sums to the cent. */

import { beforeAll, expect, test } from 'vitest';
import { settlementReply } from '../../../src/api/calls/settlement.ts';
import { modify } from '../../../src/mysql/connection.ts';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { buildPayment, buildReversal, reverse } from '../../support/payment-notices.ts';
import { refusalOf } from '../../support/shopper.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
});

test('a sale is shown with what was paid, what went back, and what is left', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  const [sold, disputed] = [await world.paid(saleId), await world.paid(saleId)];
  await reverse(world.stores, buildReversal(sold.payment, { amount: 900 }));
  await reverse(world.stores, buildReversal(sold.payment, { amount: 100, status: 'pending' }));
  await reverse(world.stores, buildReversal(disputed.payment, { kind: 'dispute' }));
  const reply = await world.get(`sales/${saleId}/settlement`);
  expect(reply.body).toMatchObject({
    saleId,
    totals: [{ currency: 'EUR', paid: 9_800, refunded: 900, chargedBack: 4_900, kept: 4_000 }],
  });
  expect(reply.body).toMatchObject({
    lines: [
      { line: 'order', orderNo: sold.order.orderNo, amount: 4_900, status: 'paid' },
      { line: 'payment', id: sold.payment.providerPaymentId, amount: 4_900 },
      { line: 'refund', amount: -900, status: 'succeeded' },
      { line: 'refund', amount: -100, status: 'pending' },
      { line: 'order', orderNo: disputed.order.orderNo },
      { line: 'payment', amount: 4_900, status: 'refunded' },
      { line: 'dispute', amount: -4_900, status: 'succeeded' },
    ],
  });
});

test('money for an order that is not stored has its lines too, and another sale has none of it', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  // Its order numbers begin like those of the sale.
  const other = await world.stores.openSale(buildSale({ saleId: `${saleId}-0` }));
  const sold = await world.paid(saleId);
  await world.paid(other.saleId);
  const lost = buildOrder({ saleId });
  const twice = [buildPayment(lost), buildPayment(lost, { amount: 700, currency: 'USD' })];
  for (const payment of twice) await world.stores.payments.record('sandbox', payment);
  const [first, second] = twice.map((payment) => payment.providerPaymentId);
  await reverse(world.stores, buildReversal(twice[0] ?? sold.payment));
  await world.stores.payments.record('sandbox', buildPayment(lost, { orderNo: `${saleId}-what-is-this` }));
  const ofOther = buildOrder({ saleId: other.saleId });
  await world.stores.payments.record('sandbox', buildPayment(ofOther));

  const { lines, totals } = settlementReply.parse((await world.get(`sales/${saleId}/settlement`)).body);
  expect(lines.filter(({ orderNo }) => orderNo === lost.orderNo)).toMatchObject([
    { line: 'payment', id: first, amount: 4_900, status: 'refunded', reference: '' },
    { line: 'payment', id: second, amount: 700, currency: 'USD' },
    { line: 'refund', amount: -4_900, status: 'succeeded' },
  ]);
  expect(new Set(lines.map(({ orderNo }) => orderNo))).toEqual(new Set([sold.order.orderNo, lost.orderNo]));
  expect(totals).toMatchObject([
    { currency: 'EUR', paid: 9_800, refunded: 4_900, kept: 4_900 },
    { currency: 'USD', paid: 700, kept: 700 },
  ]);
});

test('more than a page of order numbers is told whole, each once and in their order', async () => {
  const skus = [{ sku: 'lamp', name: 'Lamp', unitPrice: 4_900, total: 10_000, limitPerUser: null }];
  const { saleId } = await world.stores.openSale(buildSale({ skus }));
  const orders = Array.from({ length: 1_100 }, () => buildOrder({ saleId }));
  await world.stores.orders.storeOrders(
    orders.filter((_, i) => i % 3 > 0),
    'due',
  );
  // Of the others a payment alone is known.
  await modify(
    world.stores.pool,
    `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status) VALUES ?`,
    [
      orders
        .filter((_, i) => i % 3 === 0)
        .map(({ orderNo }) => ['sandbox', `pay_${orderNo}`, orderNo, 4_900, 'EUR', 'received']),
    ],
  );
  const { lines } = settlementReply.parse((await world.get(`sales/${saleId}/settlement`)).body);
  expect(lines.map(({ orderNo }) => orderNo)).toEqual(orders.map(({ orderNo }) => orderNo).toSorted());
});

test('what the provider charges has lines of its own, and is not kept', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  const { order, payment } = await world.paid(saleId);
  await world.stores.payments.record('sandbox', { ...payment, fee: 74 });
  const dispute = buildReversal(payment, { kind: 'dispute', status: 'pending' });
  await reverse(world.stores, dispute);
  // A repeat that tells no fee leaves it as it was told before.
  for (const fee of [{ fee: 2_000 }, { fee: 1_500 }, {}]) await reverse(world.stores, { ...dispute, ...fee });
  await world.stores.payments.record('sandbox', payment);
  const { lines, totals } = settlementReply.parse((await world.get(`sales/${saleId}/settlement`)).body);
  expect(lines).toMatchObject([
    { line: 'order', orderNo: order.orderNo },
    { line: 'payment', amount: 4_900 },
    { line: 'fee', id: payment.providerPaymentId, amount: -74 },
    { line: 'dispute', amount: -4_900, status: 'pending' },
    { line: 'fee', id: dispute.providerReversalId, amount: -1_500 },
  ]);
  expect(totals).toEqual([
    { currency: 'EUR', paid: 4_900, refunded: 0, chargedBack: 0, fees: 1_574, kept: 3_326 },
  ]);
});

test('as CSV no cell is a formula', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  const order = buildOrder({ saleId, reference: '=HYPERLINK("http://evil")' });
  await world.stores.orders.storeOrder(order, 'due');
  const reply = await world.get(`sales/${saleId}/settlement?format=csv`);
  expect(reply.headers.get('content-type')).toBe('text/csv; charset=utf-8');
  const [head, line] = String(reply.body).split('\n');
  expect(head).toBe('line,orderNo,reference,id,provider,amount,currency,status,at');
  expect(line).toContain(`order,${order.orderNo},"'=HYPERLINK(""http://evil"")",`);
});

test('as CSV the totals are the last lines', async () => {
  const { saleId } = await world.stores.openSale(buildSale());
  const { payment } = await world.paid(saleId);
  await reverse(world.stores, buildReversal(payment, { amount: 4_000 }));
  await reverse(world.stores, buildReversal(payment, { kind: 'dispute', amount: 4_900 }));
  const { body } = await world.get(`sales/${saleId}/settlement?format=csv`);
  expect(String(body).trimEnd().split('\n').slice(-5)).toEqual([
    'total,,,paid,,4900,EUR,,',
    'total,,,refunded,,4000,EUR,,',
    'total,,,chargedBack,,4900,EUR,,',
    'total,,,fees,,0,EUR,,',
    'total,,,kept,,-4000,EUR,,',
  ]);
});

test.each(['no-such-sale', 'A', '%00'])('of what is no sale, %s, it is not found', async (saleId) => {
  expect(refusalOf(await world.get(`sales/${saleId}/settlement`))).toBe('404 sale_not_found');
});

test.each(['format=xml', 'format=', 'after=1'])(
  'asked for as it is not, %s, it is refused',
  async (query) => {
    const { saleId } = await world.stores.openSale(buildSale());
    expect(refusalOf(await world.get(`sales/${saleId}/settlement?${query}`))).toBe('400 invalid_request');
  },
);
