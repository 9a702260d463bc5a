/** The views of sales that an API process keeps in memory: what they cost Redis, and how old they get. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  createSaleViews,
  KEPT_FRESH_MS,
  KEPT_SALES_MAX,
  saleReply,
} from '../../../src/api/calls/sale-views.ts';
import type { SaleView } from '../../../src/sales/stock.redis.ts';
import { createTestClock } from '../../support/clock.ts';
import { buildSale } from '../../support/factories.ts';
import type { HttpApp } from '../../support/http-app.ts';
import { startPrivateRedis, type PrivateRedis } from '../../support/private-redis.ts';
import { refusalOf, send } from '../../support/shopper.ts';
import { waitFor } from '../../support/wait.ts';
import { openApi, type TestApi } from '../open-api.ts';

let redis: PrivateRedis;
let api: TestApi;
/** Its views grow old by this clock. */
let app: HttpApp;
const clock = createTestClock();
beforeAll(async () => {
  redis = await startPrivateRedis();
  api = await openApi({ REDIS_URL: [redis.url] });
  app = await api.withParts({ clock });
});
afterAll(async () => {
  await app.close();
  await api.close();
  await redis.stop();
});

const open = async () => (await api.stores.openSale(buildSale())).saleId;
const look = (saleId: string) => send(`${app.url}/v1/sales/${saleId}`, 'GET');
const lampsOf = (body: unknown) => saleReply.parse(body).skus[0]?.available;

/** Commands that Redis has had, but for those that ask so. */
async function countCommands(): Promise<number> {
  const stats = await api.stores.redis.info('commandstats');
  const calls = stats.matchAll(/^cmdstat_(\w+)\S*:calls=(\d+)/gm);
  return [...calls].reduce((sum, [, name, count]) => (name === 'info' ? sum : sum + Number(count)), 0);
}

test('while the view of a sale is fresh, no number of looks costs Redis a command', async () => {
  const saleId = await open();
  const first = await look(saleId);
  const before = await countCommands();

  const replies = await Promise.all(Array.from({ length: 200 }, () => look(saleId)));

  expect(await countCommands()).toBe(before);
  expect(replies.every(({ status }) => status === 200)).toBe(true);
  expect(replies[199]?.body).toEqual(first.body);
  expect(saleReply.parse(first.body)).toMatchObject({ saleId, state: 'open' });
});

test('in its second half a view is still shown to all, while it is read anew once for them', async () => {
  const saleId = await open();
  await look(saleId);
  await (await app.shopper()).buy(saleId);
  const before = await countCommands();

  clock.pass(600);
  const replies = await Promise.all(Array.from({ length: 20 }, () => look(saleId)));
  expect(replies.map(({ body }) => lampsOf(body))).toContain(10);

  await waitFor('the view to be read', async () => lampsOf((await look(saleId)).body) === 9);
  // Its rules, its stock, and the clock.
  expect(await countCommands()).toBe(before + 3);
});

test('those who find no fresh view share one look at Redis, and none is shown an older one', async () => {
  const saleId = await open();
  await look(saleId);
  await (await app.shopper()).buy(saleId);
  const before = await countCommands();

  clock.pass(KEPT_FRESH_MS + 1);
  const replies = await Promise.all(Array.from({ length: 20 }, () => look(saleId)));

  expect(new Set(replies.map(({ body }) => lampsOf(body)))).toEqual(new Set([9]));
  expect(await countCommands()).toBe(before + 3);
});

test('a purchase from a sale that counts addresses costs Redis what any other does', async () => {
  const [counting, plain] = await Promise.all(
    [1_000, null].map((addressPurchasesPerMinute) =>
      api.stores.openSale(buildSale({ addressPurchasesPerMinute })),
    ),
  );
  const costs: number[] = [];
  for (const sale of [counting, plain]) {
    const saleId = sale?.saleId ?? '';
    const shopper = await app.shopper();
    await look(saleId);
    await shopper.buy(saleId, 'mug');
    const before = await countCommands();
    await shopper.buy(saleId, 'mug');
    costs.push((await countCommands()) - before);
  }

  expect(costs[0]).toBeGreaterThan(0);
  expect(costs[0]).toBe(costs[1]);
});

test('while Redis hangs a view is shown for its second, and then nothing older in its place', async () => {
  const saleId = await open();
  await look(saleId);
  redis.freeze();
  try {
    clock.pass(KEPT_FRESH_MS);
    expect((await look(saleId)).status).toBe(200);
    clock.pass(1);
    expect(refusalOf(await look(saleId))).toBe('503 sale_unavailable');
  } finally {
    redis.thaw();
  }
  await waitFor('Redis to answer again', async () => (await look(saleId)).status === 200);
});

test('a process reads ahead of its callers what is on sale and what opens soon', async () => {
  const opens = async (inMs: number) => {
    const [opensAtMs, closesAtMs] = [Date.now() + inMs, Date.now() + 3_600_000];
    return (await api.stores.openSale(buildSale({ opensAtMs, closesAtMs }))).saleId;
  };
  const [now, soon, later] = [await opens(-60_000), await opens(30_000), await opens(5 * 60_000)];
  const views = createSaleViews(api.stores, clock);

  await views.readAhead();

  expect([now, soon, later].map((saleId) => views.known(saleId)?.saleId)).toEqual([now, soon, undefined]);
});

// With views of the test's own making.

function buildView(overrides: Partial<SaleView> = {}): SaleView {
  const { refundRestoresLimit: _, skus, ...rules } = buildSale(overrides);
  const counted = skus.map((item) => ({ ...item, available: item.total, held: 0, sold: 0 }));
  return { ...rules, state: 'scheduled', skus: counted, ...overrides };
}

/** Views of what Redis is said to have. */
const viewsOf = (readAt: () => Promise<{ view: SaleView; nowMs: number }>) =>
  createSaleViews({ ...api.stores, saleStock: { ...api.stores.saleStock, readAt } }, clock);

test('a view says that its sale is open from the moment that it opens by the clock of Redis', async () => {
  const nowMs = Date.now();
  const view = buildView({ opensAtMs: nowMs + 300, closesAtMs: nowMs + 700 });
  const views = viewsOf(async () => ({ view, nowMs }));
  const shown = [await views.read('s')];
  for (const ms of [299, 1, 400]) {
    clock.pass(ms);
    shown.push(views.fresh('s') ?? { text: '{}', tag: '' });
  }

  expect(shown.map(({ text }) => /"state":"(\w+)"/.exec(text)?.[1])).toEqual([
    'scheduled',
    'scheduled',
    'open',
    'closed',
  ]);
  expect(new Set(shown.map(({ tag }) => tag)).size).toBe(3);
});

test('a look that hung takes the place of no later one', async () => {
  const answers: ((view: SaleView) => void)[] = [];
  const views = viewsOf(async () => ({
    view: await new Promise<SaleView>((resolve) => answers.push(resolve)),
    nowMs: Date.now(),
  }));
  const hung = views.read('s');
  clock.pass(KEPT_FRESH_MS + 1);
  const later = views.read('s');
  expect(answers).toHaveLength(2);

  answers[1]?.(buildView({ name: 'later' }));
  const { text } = await later;
  answers[0]?.(buildView({ name: 'earlier' }));

  expect((await hung).text).toBe(text);
  expect(views.fresh('s')?.text).toBe(text);
});

test('a process keeps so many sales, and forgets the one that was not asked for the longest', async () => {
  const views = viewsOf(async () => ({ view: buildView(), nowMs: Date.now() }));
  for (let i = 0; i <= KEPT_SALES_MAX; i += 1) await views.read(`s${i}`);

  expect([views.fresh('s0'), views.fresh('s1')].map((shown) => shown !== undefined)).toEqual([false, true]);
});
