/** No answer is newer than what the next look can read, also for a caller that names no version. */

import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { buildSale } from '../../support/factories.ts';
import { orderOf, problemOf, refusalOf, type Shopper } from '../../support/shopper.ts';
import { openApi, type TestApi } from '../open-api.ts';

let api: TestApi;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
  shopper = await api.shopper();
});
afterAll(() => api.close());

async function buyStored(): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  return orderNo;
}

/** The same API, whose commands about orders fail while Redis is cut off. */
async function openCut() {
  let isCut = false;
  const { reservations } = api.stores;
  const unlessCut = <T>(call: () => Promise<T>): Promise<T> =>
    isCut ? Promise.reject(new Error('Command timed out')) : call();
  const app = await api.withParts({
    reservations: {
      ...reservations,
      lookUp: (orderNo) => unlessCut(() => reservations.lookUp(orderNo)),
      project: (orderNo, state) => unlessCut(() => reservations.project(orderNo, state)),
    },
    notifier: { paymentReceived: () => {}, cancelRequested: () => {}, drain: async () => {} },
  });
  onTestFinished(() => app.close());
  return { shopper: await app.shopper(shopper.userId), cut: (value: boolean) => (isCut = value) };
}

test('a payment page that is refused shows no state that the next look does not have', async () => {
  const orderNo = await buyStored();
  // As another process commits it a moment before it is projected.
  await api.stores.orders.requestCancel(orderNo);

  const refused = await shopper.pay(orderNo);

  expect(refusalOf(refused)).toBe('409 not_payable');
  expect(problemOf(refused)['order']).toMatchObject({ version: 2, closing: true });
  expect(await shopper.readOrder(orderNo)).toEqual(problemOf(refused)['order']);
});

test('what was read from MySQL while Redis did not answer is not taken back when it answers again', async () => {
  const orderNo = await buyStored();
  const { shopper: caller, cut } = await openCut();
  cut(true);
  const asked = orderOf(await caller.cancel(orderNo));
  expect(asked).toMatchObject({ version: 2, closing: true });
  expect(await caller.readOrder(orderNo)).toEqual(asked);
  cut(false);

  expect(await caller.readOrder(orderNo)).toEqual(asked);
  expect((await api.stores.reservations.readOrder(orderNo))?.state.version).toBe(2);
});

test('an answer that could not be projected is not taken back either', async () => {
  const orderNo = await buyStored();
  const { shopper: caller, cut } = await openCut();
  await api.stores.orders.requestCancel(orderNo);
  cut(true);
  const refused = await caller.pay(orderNo);
  cut(false);

  expect(await caller.readOrder(orderNo)).toEqual(problemOf(refused)['order']);
});
