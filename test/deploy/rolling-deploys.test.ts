/**
 * Two APIs behind a real load balancer are replaced in turns while shoppers buy over kept connections. The
 * balancer has the file that docs/production.md recommends.
 */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { startApi, type AppEnv } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { scrapeCounter } from '../api/metrics.ts';
import { buildSale } from '../support/factories.ts';
import { expectStockEquation } from '../support/stock.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { apiAloneEnv, openTestProcesses, type TestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { isInstalled, startBalancer, type BalancerName } from './balancers.ts';
import { startCallers, type Counts } from './kept-callers.ts';

/** Each API once. DEPLOYS=10 prints a table worth reading. */
const DEPLOYS = Number(process.env['DEPLOYS'] ?? 2);
const CALLERS = 200;
/** Some 15 s a deploy, and the start; a busy machine takes several times as long. */
const TIMEOUT_MS = 120_000 + DEPLOYS * 60_000;

interface Deploy extends Counts {
  /** Requests that broke at an API, by nginx's log. */
  broken: number;
  stopSeconds: number;
  startSeconds: number;
}

interface Api {
  name: string;
  env: AppEnv;
  url: string;
}

let stores: TestStores;
let parts: TestProcesses;
let apis: Api[];
const crashes: string[] = [];

beforeAll(async () => {
  stores = await openTestStores();
  parts = await openTestProcesses((crash) => crashes.push(crash.message));
  apis = await Promise.all(['api-1', 'api-2'].map(openApi));
});
afterAll(() => parts.close());

async function openApi(name: string): Promise<Api> {
  const url = `http://127.0.0.1:${await findFreePort()}`;
  const env = {
    ...apiAloneEnv(stores.config.REDIS_URL[0] ?? '', stores.config.MYSQL_URL, url),
    // As it is unless set.
    DRAIN_SECONDS: '',
    TRUSTED_PROXY_HOPS: '1',
    // No worker stores the orders, and the shoppers buy faster than people.
    MYSQL_STORES_PER_SECOND: '100000',
    USER_PURCHASES_PER_MINUTE: '1000000',
  };
  await startApi(parts.processes, { name, env });
  return { name, env, url };
}

/** Without its repeats HAProxy hides nothing that an API lost. nginx needs its own (docs/production.md). */
const CASES: { title: string; name: BalancerName; repeats: boolean }[] = [
  { title: 'nginx', name: 'nginx', repeats: true },
  { title: 'HAProxy', name: 'haproxy', repeats: true },
  { title: 'HAProxy without repeats', name: 'haproxy', repeats: false },
];

test.for(CASES)(
  'behind $title two APIs are replaced in turns, and every shopper gets an answer',
  { timeout: TIMEOUT_MS },
  async ({ title, name, repeats }, context) => {
    context.skip(!isInstalled(name), `${name} is not installed: apt-get install ${name}`);
    const { saleId } = await stores.openSale(
      buildSale({
        skus: [{ sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 1_000_000, limitPerUser: null }],
      }),
    );
    const addresses = apis.map(({ url }) => new URL(url).host);
    const balancer = await startBalancer(parts.processes, name, { apis: addresses, repeats });
    const callers = await startCallers(balancer.url, saleId, CALLERS);
    const deploys: Deploy[] = [];
    let broken = 0;
    for (let deploy = 0; deploy < DEPLOYS; deploy += 1) {
      await Promise.all(apis.map(untilUsed));
      const times = await replace(apis[deploy % apis.length] ?? expect.unreachable());
      const before = broken;
      broken = balancer.broken();
      deploys.push({ ...callers.take(), ...times, broken: broken - before });
    }
    await callers.stop();
    await parts.processes.stop(name);
    const rest = callers.take();
    if (process.env['DEPLOYS']) console.log(tableOf(title, deploys));

    expect(crashes).toEqual([]);
    for (const counts of [...deploys, rest])
      expect(counts).toMatchObject({ resets: 0, badGateways: 0, unanswered: 0 });
    // No order was accepted behind the back of its shopper.
    const { redis } = await expectStockEquation(stores, saleId);
    const accepted = [...deploys, rest].reduce((sum, counts) => sum + counts.accepted, 0);
    expect(accepted).toBeGreaterThan(DEPLOYS * CALLERS);
    expect(redis[0]?.held).toBe(accepted);
  },
);

/** Until the balancer sends purchases to it. */
async function untilUsed({ name, url }: Api): Promise<void> {
  const accepted = async () => (await scrapeCounter(url, 'holdfast_purchases_total'))['accepted'] ?? 0;
  const before = await accepted();
  await waitFor(`${name} to be used`, async () => (await accepted()) > before);
}

async function replace({ name, env }: Api) {
  const sinceMs = performance.now();
  await parts.processes.stop(name);
  const stoppedMs = performance.now();
  await startApi(parts.processes, { name, env });
  return {
    stopSeconds: (stoppedMs - sinceMs) / 1_000,
    startSeconds: (performance.now() - stoppedMs) / 1_000,
  };
}

function tableOf(title: string, deploys: readonly Deploy[]): string {
  const lines = deploys.map((row, index) => [
    index + 1,
    row.requests,
    row.resets,
    row.badGateways,
    row.unanswered,
    row.broken,
    row.stopSeconds.toFixed(1),
    row.startSeconds.toFixed(1),
  ]);
  return [
    `${title}: | deploy | requests | resets | 502 | unanswered | repeated | stop s | start s |`,
    ...lines.map((cells) => `| ${cells.join(' | ')} |`),
  ].join('\n');
}
