/**
 * `npm run load` against a real API: it counts what the API answers, and says what is wrong where it cannot.
 */

import { beforeAll, expect, test } from 'vitest';
import { LoadTestError, runLoadTest, type LoadTestOptions } from '../../bench/load-test/load-test.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { openApi, type TestApi } from '../api/open-api.ts';
import { buildSale } from '../support/factories.ts';
import { buildDemo } from '../support/http-app.ts';
import { JWT_SECRET } from '../support/shopper.ts';

let api: TestApi;

beforeAll(async () => {
  api = await openApi();
});

function openSale(total: number, limitPerUser: number | null): Promise<{ saleId: string }> {
  return api.stores.openSale(
    buildSale({ skus: [{ sku: 'mug', name: 'Enamel mug', unitPrice: 1_450, total, limitPerUser }] }),
  );
}

const run = (options: Partial<LoadTestOptions>) =>
  runLoadTest({ url: api.url, requests: 40, concurrency: 8, onProgress: () => {}, ...options });

test('purchases at a sale with enough stock are all accepted, counted and timed', async () => {
  const { saleId } = await openSale(100, null);
  const progress: number[] = [];
  const report = await run({
    saleId,
    token: await signToken(JWT_SECRET, 'load-tester', '1h'),
    onProgress: ({ done }) => progress.push(done),
  });
  expect(report).toMatchObject({ requests: 40, successes: 40, failures: 0, sku: 'mug', available: 100 });
  expect(report.answers).toEqual([{ name: 'accepted', count: 40 }]);
  expect(report.p50Ms).toBeLessThanOrEqual(report.p99Ms);
  expect(report.rate).toBeCloseTo(report.requests / report.seconds);
  expect(progress).toEqual(Array.from({ length: 40 }, (_, i) => i + 1));
  const stock = await api.stores.saleStock.read(saleId);
  expect(stock?.skus[0]).toMatchObject({ available: 60, held: 40 });
});

test('what is not accepted is a failure, listed by its answer', async () => {
  const { saleId } = await openSale(15, null);
  const report = await run({ saleId, token: await signToken(JWT_SECRET, 'load-tester', '1h') });
  expect(report).toMatchObject({ successes: 15, failures: 25 });
  expect(report.answers).toEqual([
    { name: '409 sold_out', count: 25 },
    { name: 'accepted', count: 15 },
  ]);
});

test('without a token each purchase is by a shopper of its own, whom the demo gives one', async () => {
  const { saleId } = await openSale(100, 1);
  const demo = await api.withParts({ demo: buildDemo(saleId) });
  try {
    expect(await run({ url: demo.url })).toMatchObject({ saleId, successes: 40, failures: 0 });
  } finally {
    await demo.close();
  }
});

test.each([
  [
    'nothing answers',
    async () => ({ url: `http://127.0.0.1:${await findFreePort()}` }),
    /Nothing answers at http/,
  ],
  ['the address is none', async () => ({ url: 'localhost' }), /--url takes an address/],
  ['there are no demo tokens', async () => ({}), /gives no demo tokens: pass --token and --sale/],
  ['a token comes without a sale', async () => ({ token: 'any' }), /name the sale with --sale/],
  [
    'there is no such sale',
    async () => ({ token: 'any', saleId: 'no-such-sale' }),
    /has no sale "no-such-sale"/,
  ],
])('where %s, the error says so and what to do', async (_, optionsOf, message) => {
  const running = run(await optionsOf());
  await expect(running).rejects.toThrow(LoadTestError);
  await expect(running).rejects.toThrow(message);
});
