/** What shoppers are told of a sale that the shop has made, before and after Redis has it. */

import { beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import type { AppDeps } from '../../../src/api/app.ts';
import { createSaleViews, KEPT_FRESH_MS, saleReply } from '../../../src/api/calls/sale-views.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { createTestClock } from '../../support/clock.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { acceptedOf, problemOf, refusalOf, send, type Reply, type Shopper } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, openMysqlAway, type TestApi } from '../open-api.ts';
import { buildDocument, fromNow, openBackOffice, saleOf, type BackOffice } from './back-office.ts';

let api: TestApi;
let app: HttpApp;
let shop: BackOffice;
let shopper: Shopper;
const clock = createTestClock();
beforeAll(async () => {
  api = await openApi();
  app = await api.withParts({ clock });
  shop = await openBackOffice(app.url);
  shopper = await app.shopper();
});

/** From now on the app knows nothing fresh of any sale. */
const forgetViews = () => clock.pass(KEPT_FRESH_MS + 1);
const look = (saleId: string, url = app.url): Promise<Reply> => send(`${url}/v1/sales/${saleId}`, 'GET');
const order = (saleId: string, by = shopper): Promise<Reply> =>
  by.placeOrder({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });

async function openParts(parts: Partial<AppDeps>) {
  const { url, ...other } = await api.withParts(parts);
  return { url, shop: await openBackOffice(url), shopper: await other.shopper() };
}

/** Redis forgets the sale. */
async function lose(saleId: string): Promise<void> {
  const { sale, stock } = saleKeys({ saleId, shard: 0 });
  await api.stores.redis.del(sale, stock);
}

test('a sale that opens by now is sold from as soon as its PUT is answered', async () => {
  const saleId = shop.newSaleId();
  expect(saleOf(await shop.put(saleId, buildDocument()))).toMatchObject({ state: 'open', pending: false });

  expect((await look(saleId)).body).toMatchObject({ saleId, state: 'open' });
  expect(acceptedOf(await order(saleId))).toMatchObject({ saleId, status: 'queued' });
});

test('a draft that is published is sold from as well', async () => {
  const saleId = shop.newSaleId();
  await shop.put(saleId, buildDocument({ draft: true }));
  expect(refusalOf(await look(saleId))).toBe('404 sale_not_found');
  expect(refusalOf(await order(saleId))).toBe('404 sale_not_found');

  await shop.put(saleId, buildDocument());

  expect(acceptedOf(await order(saleId))).toMatchObject({ saleId });
});

test('a worker that puts the sale into Redis at the same time makes its stock once', async () => {
  const saleId = shop.newSaleId();
  const { sales, saleStock } = api.stores;
  await shop.put(saleId, buildDocument({ draft: true }));
  const put = shop.put(saleId, buildDocument());
  await Promise.all([put, ...Array.from({ length: 4 }, () => sales.warmUp(saleId, saleStock))]);
  await sales.warmUp(saleId, saleStock);

  acceptedOf(await order(saleId));
  await shop.put(saleId, buildDocument());

  expect((await saleStock.read(saleId))?.skus).toMatchObject([{ sku: 'lamp', available: 9, held: 1 }, {}]);
});

test('a sale of later days is shown as scheduled with its stock, and its orders are told when', async () => {
  const saleId = shop.newSaleId();
  const opensAt = fromNow(2);
  await shop.put(saleId, buildDocument({ opensAt, closesAt: fromNow(3), metadata: { team: 'blue' } }));

  const reply = await look(saleId);

  expect(saleReply.parse(reply.body)).toMatchObject({
    saleId,
    state: 'scheduled',
    opensAt,
    paused: false,
    metadata: { team: 'blue' },
    skus: [
      { sku: 'lamp', limitPerUser: 2, total: 10, available: 10, held: 0, sold: 0 },
      { sku: 'mug', limitPerUser: null, total: 5, available: 5, held: 0, sold: 0 },
    ],
  });
  expect(reply.headers.get('cache-control')).toContain('max-age=1');
  const refused = await order(saleId);
  expect(refusalOf(refused)).toBe('403 sale_not_open_yet');
  expect(problemOf(refused)['opensAt']).toBe(opensAt);
  expect(refused.headers.get('retry-after')).toBeNull();
  expect(await api.stores.redis.keys(`*${saleId}*`)).toEqual([]);
  await api.stores.sales.warmUp(saleId, api.stores.saleStock);
  forgetViews();
  expect((await look(saleId)).body).toEqual(reply.body);
});

test('one that is paused before its opening shows it, and one that was closed or put away is gone', async () => {
  const saleId = shop.newSaleId();
  await shop.put(saleId, buildDocument({ opensAt: fromNow(2), closesAt: fromNow(3) }));
  await shop.act(saleId, 'pause');
  expect((await look(saleId)).body).toMatchObject({ state: 'paused', paused: true });
  expect(refusalOf(await order(saleId))).toBe('403 sale_paused');
  await shop.act(saleId, 'close');
  forgetViews();
  expect(refusalOf(await look(saleId))).toBe('404 sale_not_found');
  expect(refusalOf(await order(saleId))).toBe('404 sale_not_found');
  const draft = shop.newSaleId();
  await shop.put(draft, buildDocument({ draft: true }));
  await shop.act(draft, 'archive');
  expect(refusalOf(await look(draft))).toBe('404 sale_not_found');
});

test('while Redis cannot take it, the sale is pending and its orders are told to come back in a moment', async () => {
  const { saleStock, saleChanges } = api.stores;
  const away = () => Promise.reject(new Error('Command timed out'));
  const cut = await openParts({ saleStock: { ...saleStock, change: away } });
  const saleId = shop.newSaleId();

  const made = await cut.shop.put(saleId, buildDocument());

  expect(made.status).toBe(201);
  expect(saleOf(made)).toMatchObject({ state: 'open', pending: true });
  expect((await look(saleId)).body).toMatchObject({ state: 'scheduled', skus: [{ available: 10 }, {}] });
  const refused = await order(saleId);
  expect(refusalOf(refused)).toBe('403 sale_not_open_yet');
  expect(refused.headers.get('retry-after')).toBe('1');
  // As a worker does it.
  for (const change of await saleChanges.listPending()) await saleChanges.complete(change, saleStock);
  forgetViews();
  expect((await look(saleId)).body).toMatchObject({ state: 'open' });
  acceptedOf(await order(saleId));
});

test('a sale that Redis has lost is neither unknown nor on sale', async () => {
  const saleId = shop.newSaleId();
  await shop.put(saleId, buildDocument());
  await lose(saleId);

  const looked = await look(saleId);
  const refused = await order(saleId);

  expect([refusalOf(looked), looked.headers.get('retry-after')]).toEqual(['503 sale_unavailable', '1']);
  expect(refusalOf(refused)).toBe('403 sale_paused');
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  expect(await api.stores.redis.exists(saleKeys({ saleId, shard: 0 }).stock)).toBe(0);
  // Sent again, the document makes no stock: only the rebuild does.
  await shop.put(saleId, buildDocument());
  expect(await api.stores.redis.exists(saleKeys({ saleId, shard: 0 }).stock)).toBe(0);
});

test('while MySQL is away, nothing is said of a sale that Redis does not have, and the others are sold', async () => {
  const saleId = shop.newSaleId();
  await shop.put(saleId, buildDocument());
  const { pool, ...away } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const cut = await openParts({ pool, ...away });
  const unknown = shop.newSaleId();

  expect(refusalOf(await look(unknown, cut.url))).toBe('503 sale_unavailable');
  expect(refusalOf(await order(unknown, cut.shopper))).toBe('503 sale_unavailable');
  expect((await look(saleId, cut.url)).status).toBe(200);
  acceptedOf(await order(saleId, cut.shopper));
});

test('a scheduled sale is shown, and its orders are told when, while callers look at many made-up ids', async () => {
  const saleId = shop.newSaleId();
  const opensAt = fromNow(2);
  await shop.put(saleId, buildDocument({ opensAt, closesAt: fromNow(3) }));

  const madeUp = Array.from({ length: 100 }, () => look(shop.newSaleId()));
  const [shown, refused] = await Promise.all([look(saleId), order(saleId)]);

  expect(shown.body).toMatchObject({ saleId, state: 'scheduled', opensAt });
  expect([refusalOf(refused), problemOf(refused)['opensAt']]).toEqual(['403 sale_not_open_yet', opensAt]);
  const answers = new Set((await Promise.all(madeUp)).map(refusalOf));
  expect(answers).toEqual(new Set(['404 sale_not_found']));
});

test('looks and orders of a scheduled sale share one read of MySQL a second', async () => {
  const { sales } = api.stores;
  const readAll = vi.fn(sales.readAll);
  const counted = await openParts({ clock, sales: { ...sales, readAll } });
  const saleId = shop.newSaleId();
  await shop.put(saleId, buildDocument({ opensAt: fromNow(2), closesAt: fromNow(3) }));

  for (let i = 0; i < 3; i += 1) await look(saleId, counted.url);
  expect(refusalOf(await order(saleId, counted.shopper))).toBe('403 sale_not_open_yet');

  expect(readAll.mock.calls).toEqual([[[saleId]]]);
});

test('MySQL is asked one question at a time for all ids that Redis does not have', async () => {
  const { sales, redis } = api.stores;
  const asked: (readonly string[])[] = [];
  const answer: (() => void)[] = [];
  const readAll = (saleIds: readonly string[]) => {
    asked.push(saleIds);
    return new Promise<[]>((resolve) => answer.push(() => resolve([])));
  };
  const views = createSaleViews({ ...api.stores, sales: { ...sales, readAll } }, clock);
  const [first = '', ...others] = Array.from({ length: 20 }, () => shop.newSaleId());

  const looks = [views.lookAtAbsent(first)];
  await waitFor('the first question', () => asked.length === 1);
  looks.push(...others.map((saleId) => views.lookAtAbsent(saleId)));
  // Redis has answered all of them by then.
  await redis.ping();
  await new Promise(setImmediate);
  expect(asked).toEqual([[first]]);
  answer[0]?.();
  await waitFor('the second question', () => asked.length === 2);
  answer[1]?.();

  expect(asked[1]).toEqual(others);
  expect(new Set((await Promise.all(looks)).map(({ kind }) => kind))).toEqual(new Set(['unknown']));
});
