/** What caches between the API and its callers may keep: a sale's view for seconds, and nothing else. */

import { beforeAll, expect, test } from 'vitest';
import { SALE_FRESH_SECONDS, SALE_STALE_SECONDS } from '../../../src/api/calls/sale-views.ts';
import { buildSale } from '../../support/factories.ts';
import { acceptedOf, send } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw } from '../raw-http.ts';

let api: TestApi;
let saleId: string;
beforeAll(async () => {
  api = await openApi();
  ({ saleId } = await api.stores.openSale(buildSale()));
});

const readSale = (headers: Record<string, string> = {}) =>
  send(`${api.url}/v1/sales/${saleId}`, 'GET', { headers });
const kept = (headers: Headers) => headers.get('cache-control');

test("a sale's view may be kept for a second, and shown for four more while it is asked for", async () => {
  const reply = await readSale();

  expect(kept(reply.headers)).toBe('public, max-age=1, s-maxage=1, stale-while-revalidate=4');
  expect(SALE_FRESH_SECONDS + SALE_STALE_SECONDS).toBe(5);
  expect(reply.headers.get('content-type')).toMatch(/^application\/json/);
});

test('a view is asked for by its tag, and answers 304 until something of the sale changes', async () => {
  const etag = (await readSale()).headers.get('etag') ?? '';
  const again = [etag, `W/${etag}`, `"other", ${etag}`, '*'];
  for (const tag of again) {
    const unchanged = await readSale({ 'if-none-match': tag });
    expect([unchanged.status, unchanged.body, kept(unchanged.headers)]).toEqual([
      304,
      '',
      'public, max-age=1, s-maxage=1, stale-while-revalidate=4',
    ]);
    expect(unchanged.headers.get('etag')).toBe(etag);
  }

  await (await api.shopper()).buy(saleId, 'mug');
  const changed = await waitFor('the view to change', async () => {
    const reply = await readSale({ 'if-none-match': etag });
    return reply.status !== 304 && reply;
  });
  expect(changed.status).toBe(200);
  expect(changed.headers.get('etag')).not.toBe(etag);
});

test("a sale's view is the same for all callers", async () => {
  const { authorization } = await api.shopper();
  const [anyone, shopper] = [await readSale(), await readSale({ authorization })];

  expect(shopper.body).toEqual(anyone.body);
  expect(shopper.headers.get('etag')).toBe(anyone.headers.get('etag'));
});

test('what is personal, of the back office, or an error is kept by no cache', async () => {
  const shopper = await api.shopper();
  const placed = await shopper.placeOrder({ saleId, items: [{ sku: 'mug', quantity: 1 }] });
  const { orderNo } = acceptedOf(placed);
  await api.store(orderNo);
  const replies = [
    placed,
    await shopper.getOrder(orderNo),
    await shopper.getOrder(orderNo, { 'if-none-match': '*' }),
    await shopper.getOrder('unknown'),
    await shopper.pay(orderNo),
    await shopper.call('POST', '/v1/admin/payments/1/refund'),
    await send(`${api.url}/v1/sales/unknown`, 'GET'),
    await send(`${api.url}/v1/webhooks/payments`, 'POST', { body: {} }),
    await send(`${api.url}/nothing`, 'GET'),
    await send(`${api.url}/v1/sales/${saleId}`, 'DELETE'),
  ];

  expect(replies.map(({ status, headers }) => [status, kept(headers)])).toEqual(
    [202, 200, 304, 404, 201, 403, 404, 401, 404, 405].map((status) => [status, 'no-store']),
  );
});

test('an answer before any routing is kept by no cache either', async () => {
  for (const request of ['GET / HTTP/1.1\r\n\r\n', 'nonsense\r\n\r\n']) {
    const raw = await openRaw(api.url);
    raw.write(request);
    const [reply] = await raw.untilClosed();
    expect([reply?.status, reply && kept(reply.headers)]).toEqual([400, 'no-store']);
  }
});
