/** The counters that Prometheus fetches: each answer to a notice and each refused call counts once. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { MAX_NOTICES_IN_FLIGHT } from '../../src/api/app.ts';
import { PROBLEMS, type ProblemCode } from '../../src/api/http/problem-codes.ts';
import { modify } from '../../src/mysql/connection.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { buildSale } from '../support/factories.ts';
import type { HttpApp } from '../support/http-app.ts';
import { openShopper, refusalOf, send, type Reply } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { scrape, scrapeCounter } from './metrics.ts';
import { openApi, openMysqlAway, type TestApi } from './open-api.ts';
import { harmlessNotice, sendNotice, type Signing } from './webhooks/signed-notice.ts';

let api: TestApi;
/** An app of the test's own: its counters begin at zero. */
let app: HttpApp;

beforeAll(async () => {
  api = await openApi();
});
beforeEach(() => open({}));

async function open(overrides: Parameters<TestApi['withParts']>[0]): Promise<void> {
  const opened = await api.withParts(overrides);
  app = opened;
}

const counted = () => scrapeCounter(app.url, 'holdfast_notices_total');
const none = { accepted: 0, forged: 0, malformed: 0, unavailable: 0 };
const codeOf = (reply: Reply) => (reply.status === 204 ? '204' : refusalOf(reply));

test('the metrics come in the text format, without a token', async () => {
  const { status, headers } = await send(`${app.url}/metrics`, 'GET');

  expect([status, headers.get('content-type')]).toEqual([200, 'text/plain; version=0.0.4; charset=utf-8']);
  const samples = await scrape(app.url);
  expect(samples.get('process_resident_memory_bytes')).toBeGreaterThan(0);
  expect([...samples.keys()].some((name) => name.startsWith('nodejs_eventloop_lag'))).toBe(true);
});

test('with a port of their own the metrics are not at that of the shoppers', async () => {
  await open({ showsMetrics: false });
  expect(refusalOf(await send(`${app.url}/metrics`, 'GET'))).toBe('404 no_such_resource');
});

const lanes = [
  'purchases',
  'notices',
  'payments',
  'others',
  'verifications',
  'looks',
  'staff',
  'queries',
  'feeds',
  'bodies',
];
/** Refusals of purchases that no shopper caused. */
const FAILURES: ProblemCode[] = [
  'outcome_unknown',
  'stock_unavailable',
  'backlog_full',
  'keys_unavailable',
  'internal_error',
];
const noneShed = Object.fromEntries(lanes.map((lane) => [lane, 0]));

test('every counter is there before it has counted anything', async () => {
  expect(await counted()).toEqual(none);
  expect(await scrapeCounter(app.url, 'holdfast_shed_total')).toEqual(noneShed);
});

test('every answer to a purchase that the alert counts is there before its first', async () => {
  const rules = readFileSync(join(repoDir, 'monitoring', 'alerts.yaml'), 'utf8');
  const counts = /holdfast_purchases_total\{outcome=~"([^"]+)"/.exec(rules)?.[1]?.split('|') ?? [];
  expect(counts.toSorted()).toEqual(FAILURES.toSorted());
  for (const code of FAILURES) expect(PROBLEMS[code].status).toBeGreaterThanOrEqual(500);

  expect(await scrapeCounter(app.url, 'holdfast_purchases_total')).toMatchObject(
    Object.fromEntries(FAILURES.map((code) => [code, 0])),
  );
});

test('each app counts for itself', async () => {
  await sendNotice(app.url, harmlessNotice());

  expect(await counted()).toEqual({ ...none, accepted: 1 });
  expect(await scrapeCounter(api.url, 'holdfast_notices_total')).toEqual(none);
});

const FORGERIES: [string, Signing][] = [
  ['forged', { secret: 'whsec_YW5vdGhlci1zZWNyZXQtZm9yLXRlc3RzLTAyMDI=' }],
  ['changed', { tampered: '{"type":"another"}' }],
  ['stale', { sentAt: new Date(Date.now() - 60 * 60 * 1000) }],
  ['premature', { sentAt: new Date(Date.now() + 60 * 60 * 1000) }],
];

test.each(FORGERIES)('a %s notice is counted as forged', async (_, signing) => {
  expect(codeOf(await sendNotice(app.url, harmlessNotice(), signing))).toBe('401 invalid_signature');

  expect(await counted()).toEqual({ ...none, forged: 1 });
});

test.each([
  ['of an unknown shape', '{"kind":"?"}', '400 malformed_notice'],
  ['that is no JSON', '{"type":', '400 malformed_notice'],
  ['larger than any', JSON.stringify({ pad: 'x'.repeat(300_000) }), '413 body_too_large'],
])('a notice %s is counted as malformed', async (_, body, code) => {
  expect(codeOf(await sendNotice(app.url, body))).toBe(code);

  expect(await counted()).toEqual({ ...none, malformed: 1 });
});

test('a notice that is not sent as JSON is counted as malformed', async () => {
  const headers = { 'content-type': 'text/plain' };
  const reply = await send(`${app.url}/v1/webhooks/payments`, 'POST', { headers, body: harmlessNotice() });

  expect(codeOf(reply)).toBe('415 unsupported_media_type');
  expect(await counted()).toEqual({ ...none, malformed: 1 });
});

test('while MySQL is away a notice is counted as unavailable, and metrics are answered as ever', async () => {
  const { pool, ...parts } = await openMysqlAway();
  onTestFinished(() => pool.end());
  await open({ pool, ...parts });

  expect(codeOf(await sendNotice(app.url, harmlessNotice()))).toBe('503 inbox_unavailable');

  expect(await counted()).toEqual({ ...none, unavailable: 1 });
});

test('notices beyond what is worked on at once are counted as shed, and as unavailable', async () => {
  let letGo = (): void => {};
  let waiting = 0;
  const gate = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const receive = async (): Promise<undefined> => {
    waiting += 1;
    await gate;
  };
  await open({ payments: { ...api.stores.payments, receive } });
  const taken = Array.from({ length: MAX_NOTICES_IN_FLIGHT }, () => sendNotice(app.url, harmlessNotice()));
  await waitFor('the lane to be full', () => waiting === MAX_NOTICES_IN_FLIGHT);

  expect(codeOf(await sendNotice(app.url, harmlessNotice()))).toBe('503 overloaded');

  expect(await scrapeCounter(app.url, 'holdfast_shed_total')).toEqual({
    ...noneShed,
    notices: 1,
  });
  letGo();
  await Promise.all(taken);
  expect(await counted()).toEqual({ ...none, accepted: MAX_NOTICES_IN_FLIGHT, unavailable: 1 });
});

test('each purchase counts once, by how it was answered', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const { skus } = buildSale();
  const buyer = await openShopper(app.url);
  const cart = { saleId, items: [{ sku: skus[0]?.sku ?? '', quantity: 1 }] };
  const key = { 'idempotency-key': 'the-same-key' };

  await buyer.placeOrder(cart, key);
  await buyer.placeOrder(cart, key);
  await buyer.placeOrder({ saleId, items: [{ sku: 'no-such', quantity: 1 }] });
  // With a query it is Koa's.
  await send(`${app.url}/v1/orders?a=b`, 'POST', { body: cart });

  const purchases = await scrapeCounter(app.url, 'holdfast_purchases_total');
  expect(purchases).toMatchObject({ accepted: 1, repeated: 1, unknown_sku: 1, unauthorized: 1, sold_out: 0 });
});

test('each call is measured under its route and the class of its status, whatever its path', async () => {
  await send(`${app.url}/v1/sales/never-was`, 'GET');
  await send(`${app.url}/v1/sales/nor-this`, 'GET');
  await send(`${app.url}/v1/orders/anything`, 'GET');
  await send(`${app.url}/no/such/path`, 'GET');

  const samples = await scrape(app.url);
  const countOf = (call: string, status: string) =>
    samples.get(`holdfast_call_seconds_count{call="${call}",status="${status}"}`);
  expect(countOf('GET /v1/sales/:saleId', '4xx')).toBe(2);
  expect(countOf('GET /v1/orders/:orderNo', '4xx')).toBe(1);
  expect(countOf('none', '4xx')).toBe(1);
});

test('each wait for a connection to MySQL is measured', async () => {
  const count = 'holdfast_mysql_wait_seconds_count';
  const before = (await scrape(app.url)).get(count) ?? Infinity;

  await modify(api.stores.pool, 'DO 1');

  expect((await scrape(app.url)).get(count)).toBeGreaterThan(before);
});

test('a store that is away counts as unavailable, and what it refuses as refused', async () => {
  const { pool } = await openMysqlAway();
  onTestFinished(() => pool.end());
  const unavailable = 'holdfast_store_errors_total{store="mysql",kind="unavailable"}';
  const refused = 'holdfast_store_errors_total{store="mysql",kind="refused"}';
  const before = await scrape(app.url);

  await expect(modify(pool, 'DO 1')).rejects.toThrow();
  await expect(modify(api.stores.pool, 'DO no_such_function()')).rejects.toThrow();

  const after = await scrape(app.url);
  expect(after.get(unavailable)).toBeGreaterThan(before.get(unavailable) ?? Infinity);
  expect(after.get(refused)).toBe((before.get(refused) ?? Infinity) + 1);
});
