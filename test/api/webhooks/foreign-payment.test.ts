/** Notices about payments of another deployment on the same provider account disturb nothing. */

import { beforeAll, expect, test } from 'vitest';
import { buildOrder, buildSale } from '../../support/factories.ts';
import { select } from '../../support/rows.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
beforeAll(async () => {
  api = await openApi();
});

async function storedOrder() {
  const { saleId } = await api.stores.openSale(buildSale());
  const order = buildOrder({ saleId });
  await api.stores.orders.storeOrder(order, 'started');
  return order;
}

const events = (about: string) =>
  select(api.stores.pool, 'SELECT kind FROM payment_events WHERE raw_body LIKE ?', [`%${about}%`]);

test('a payment of another deployment is recorded as ignored, whatever order it names', async () => {
  const order = await storedOrder();
  const money = { reference: order.orderNo, amount: order.total };
  await api.providerConsole.takeStrayPayment({ ...money, deployment: 'other' });

  expect(await waitFor('the notice', async () => (await events(order.orderNo))[0])).toEqual({
    kind: 'ignored',
  });
  expect((await api.stores.orders.read(order.orderNo))?.state).toMatchObject({ payment: 'none', version: 1 });
  expect(await api.countRows('payments', order.orderNo)).toBe(0);
  const listed: string[] = [];
  for await (const { orderNo } of api.provider.listPayments()) listed.push(orderNo);
  expect(listed).not.toContain(order.orderNo);
});

test('a refund of an unknown payment that names no deployment is kept, and settles nothing', async () => {
  const reversal = { kind: 'refund', providerReversalId: 're_1', amount: 5, currency: 'EUR' } as const;
  const notice = {
    kind: 'payment_reversed',
    eventId: 'evt_foreign',
    reversal: { ...reversal, providerPaymentId: 'pi_of_another_deployment', status: 'succeeded' },
  } as const;

  expect(await api.stores.payments.receive('sandbox', notice, '{}')).toBeUndefined();

  const parked = 'SELECT reference FROM parked WHERE reference = ?';
  expect(await select(api.stores.pool, parked, ['pi_of_another_deployment'])).toEqual([]);
  expect(await api.stores.unmatchedPayments.list(100)).toEqual([]);
});
