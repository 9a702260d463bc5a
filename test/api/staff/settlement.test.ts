/** The settlement export of a sale: every line of its money, and sums to the cent. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { buildReversal, reverse } from '../../support/payment-notices.ts';
import { refusalOf } from '../../support/shopper.ts';
import { openStaffWorld, type StaffWorld } from './staff-world.ts';

let world: StaffWorld;
beforeAll(async () => {
  world = await openStaffWorld();
});
afterAll(() => world.api.close());

test('a sale is told with what was paid, what went back, and what is left', async () => {
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
