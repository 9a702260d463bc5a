/** Attempts to pay are bounded for each order and each user, so that stolen cards cannot be tested here. */

import { beforeAll, expect, test } from 'vitest';
import {
  MAX_FAILED_ATTEMPTS_OF_ORDER,
  MAX_FAILED_ATTEMPTS_OF_USER,
} from '../../../src/money/attempts.redis.ts';
import { buildSale } from '../../support/factories.ts';
import { pressPay, refusalOf, sessionOf, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { sendNotice } from '../webhooks/signed-notice.ts';

let api: TestApi;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  const skus = [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null }];
  ({ saleId } = await api.stores.openSale(buildSale({ skus })));
});

async function buyStored(shopper: Shopper): Promise<string> {
  const orderNo = await shopper.buy(saleId);
  await api.store(orderNo);
  return orderNo;
}

/** As the provider reports each card that was declined. */
async function decline(orderNo: string, times: number): Promise<void> {
  const data = { payment_id: null, session_id: null, reference: orderNo, amount: 4_900, currency: 'EUR' };
  for (let i = 0; i < times; i += 1) {
    const timestamp = new Date().toISOString();
    const reply = await sendNotice(api.url, JSON.stringify({ type: 'payment.failed', timestamp, data }));
    expect(reply.status).toBe(204);
  }
}

test('after ten failed attempts an order gets no page any more, and the answer says when to come back', async () => {
  const shopper = await api.shopper();
  const orderNo = await buyStored(shopper);
  await decline(orderNo, MAX_FAILED_ATTEMPTS_OF_ORDER - 1);
  const { url } = sessionOf(await shopper.pay(orderNo));
  await decline(orderNo, 1);

  const reply = await shopper.pay(orderNo);

  expect(refusalOf(reply)).toBe('429 too_many_attempts');
  expect(Number(reply.headers.get('retry-after'))).toBeGreaterThan(0);
  const other = await buyStored(shopper);
  expect((await shopper.pay(other)).status).toBe(201);

  // The page that is open still takes the right card, and its money counts.
  await pressPay(url);
  await waitFor('the payment', async () => (await shopper.readOrder(orderNo)).status === 'paid');
  expect(refusalOf(await shopper.pay(orderNo))).toBe('409 already_paid');
});

test('a user whose attempts fail over several orders gets no page for any of them', async () => {
  const shopper = await api.shopper();
  const orderNos = [await buyStored(shopper), await buyStored(shopper), await buyStored(shopper)];
  for (const orderNo of orderNos) await decline(orderNo, Math.ceil(MAX_FAILED_ATTEMPTS_OF_USER / 3));
  const fresh = await buyStored(shopper);

  expect(refusalOf(await shopper.pay(fresh))).toBe('429 too_many_attempts');
  const rival = await api.shopper();
  expect((await rival.pay(await buyStored(rival))).status).toBe(201);
});

test('a failed attempt whose notice comes twice counts once', async () => {
  const shopper = await api.shopper();
  const orderNo = await buyStored(shopper);
  const notice = { kind: 'payment_failed', eventId: `evt_${orderNo}`, orderNo } as const;
  const receive = () => api.stores.payments.receive('sandbox', notice, '{}');

  expect([(await receive())?.isNewFailure, (await receive())?.isNewFailure]).toEqual([true, undefined]);
});
