/**
 * Two deployments, both with the default name, on one Redis, one MySQL server, one namespace of Temporal and
 * one account at the provider: with nothing of their own they are refused, with their own they live side by
 * side. Real processes.
 */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from 'vitest';
import { openConsole, type SandboxConsole } from '../../sandbox/console.ts';
import { createSandboxProvider } from '../../sandbox/server.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { openProvider } from '../../src/providers/open.ts';
import { reconcileScheduleOf } from '../../src/workflows/contract.ts';
import { appEnv, demoSecrets, startApi, startWorker, type AppEnv } from '../../stack/app.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { expectCleanAudit } from '../support/audit.ts';
import { buildSale } from '../support/factories.ts';
import { ownRedisUrl } from '../support/own-redis.ts';
import { select } from '../support/rows.ts';
import { JWT_SECRET, openShopper, pressPay, send, sessionOf } from '../support/shopper.ts';
import { expectStock } from '../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { openTcpProxy } from '../support/tcp-proxy.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { openEngine, type TestEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

let namespace: string;
let engine: TestEngine;
beforeAll(async () => {
  namespace = await createNamespace();
  engine = await openEngine(namespace);
});
afterAll(() => engine.close());

/** One on the Redis of this file, which it empties. */
async function openStores(keyPrefix?: string): Promise<TestStores> {
  const stores = await openTestStores({ REDIS_KEY_PREFIX: keyPrefix });
  onTestFinished(() => stores.close());
  return stores;
}

async function buildEnv(stores: TestStores, providerUrl: string, more: AppEnv = {}): Promise<AppEnv> {
  const apiUrl = `http://127.0.0.1:${await findFreePort()}`;
  const servers = {
    redisUrl: await ownRedisUrl(),
    mysqlUrl: stores.config.MYSQL_URL,
    temporalAddress: inject('temporalAddress'),
    temporalUiUrl: undefined,
  };
  const env = appEnv({ servers, urls: { apiUrl, providerUrl } });
  return { ...env, TEMPORAL_NAMESPACE: namespace, JWT_SECRET, ...more };
}

/** Nothing calls it. */
const NO_PROVIDER = 'http://127.0.0.1:9';

async function openProcesses() {
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  onTestFinished(close);
  return processes;
}

/** A process that is to end by itself. */
function run(part: 'api' | 'workers', env: AppEnv): Promise<{ exitCode: unknown; output: string }> {
  const script = join(repoDir, 'dist', 'src', part, 'main.js');
  return new Promise((resolve) => {
    execFile(process.execPath, [script], { env: { ...process.env, ...env } }, (error, stdout, stderr) => {
      resolve({ exitCode: error?.code ?? 0, output: stdout + stderr });
    });
  });
}

/**
 * The schedule would go on starting workflows on the server that all test files share, and keep the next test
 * from the queue. Call it before the worker starts, which then ends first: it would make the schedule again.
 */
function dropScheduleLater(taskQueue: string): void {
  onTestFinished(() => engine.client.schedule.getHandle(reconcileScheduleOf(taskQueue)).delete());
}

test('a second one is refused by Redis, and with keys of its own by the task queue', async () => {
  const ours = await openStores();
  const theirs = await openStores('theirs');
  dropScheduleLater('orders');
  const processes = await openProcesses();
  await startWorker(processes, { name: 'worker', env: await buildEnv(ours, NO_PROVIDER) });
  const env = await buildEnv(theirs, NO_PROVIDER);
  const beside = { ...env, REDIS_KEY_PREFIX: 'theirs' };

  const refused = await Promise.all([
    ...(['api', 'workers'] as const).map((part) => run(part, env)),
    ...(['api', 'workers'] as const).map((part) => run(part, beside)),
  ]);

  expect(refused.map(({ exitCode }) => exitCode)).toEqual([1, 1, 1, 1]);
  for (const { output } of refused.slice(0, 2))
    expect(output).toMatch(/Redis belongs to another deployment.*REDIS_KEY_PREFIX/);
  for (const { output } of refused.slice(2))
    expect(output).toMatch(/task queue orders .* belongs to another deployment.*TEMPORAL_TASK_QUEUE/);
});

test('an API starts while MySQL is away, and ends when that turns out to be of another deployment', async () => {
  const ours = await openStores();
  const theirs = await openStores('theirs');
  await ours.deployment.join();
  const url = new URL(theirs.config.MYSQL_URL);
  const wire = await openTcpProxy(url.host);
  onTestFinished(() => wire.close());
  wire.cut();
  url.host = wire.address;
  const env = await buildEnv(ours, NO_PROVIDER, { MYSQL_URL: url.href });
  const died: string[] = [];
  const { processes, close } = await openTestProcesses((crash) => died.push(crash.message));
  onTestFinished(close);
  await startApi(processes, { name: 'api', env });

  wire.mend();

  expect(await waitFor('the end of the API', () => died[0])).toMatch(/another deployment/);
});

/** Sends each notice to all, as an account with two webhook endpoints does. */
async function openFanOut(urls: readonly string[]): Promise<string> {
  const server = createServer((request, response) => {
    void (async () => {
      const body = await buffer(request);
      const headers = Object.fromEntries(
        Object.entries(request.headersDistinct).flatMap(([name, values = []]) =>
          name.startsWith('webhook-') || name === 'content-type' ? [[name, values.join(',')]] : [],
        ),
      );
      const replies = await Promise.all(
        urls.map((url) => fetch(url, { method: 'POST', headers, body: new Uint8Array(body) })),
      );
      response.statusCode = replies.every(({ ok }) => ok) ? 200 : 503;
      response.end();
    })().catch(() => response.destroy());
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port');
  return `http://127.0.0.1:${address.port}`;
}

interface Sold {
  orderNo: string;
  paymentId: string;
}

/** One of the two: its processes run, and its sale is open. */
async function openDeployment(
  { stores, env }: { stores: TestStores; env: AppEnv },
  providerConsole: SandboxConsole,
) {
  const processes = await openProcesses();
  await Promise.all([
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);
  const url = `http://127.0.0.1:${env['API_PORT']}`;
  const authorization = `Bearer ${await signToken(JWT_SECRET, 'olga', '1h', { roles: ['operator'] })}`;
  await stores.deployment.check();
  return {
    stores,
    client: engine.client,
    taskQueue: env['TEMPORAL_TASK_QUEUE'] ?? 'orders',
    provider: openProvider(
      {
        PAYMENT_PROVIDER_URL: env['PAYMENT_PROVIDER_URL'] ?? '',
        PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
        WEBHOOK_SECRETS: [demoSecrets.webhook],
      },
      stores.deployment,
    ),

    async sell(saleId: string): Promise<Sold> {
      const shopper = await openShopper(url, 'ada');
      const orderNo = await shopper.buy(saleId);
      await shopper.awaitStatus(orderNo, 'awaiting_payment');
      await pressPay(sessionOf(await shopper.pay(orderNo)).url);
      await shopper.awaitStatus(orderNo, 'paid');
      const [payment] = await providerConsole.listPayments(orderNo);
      return { orderNo, paymentId: payment?.id ?? '' };
    },

    async cancel(saleId: string): Promise<string> {
      const shopper = await openShopper(url, 'bob');
      const orderNo = await shopper.buy(saleId);
      await shopper.cancel(orderNo);
      await shopper.awaitStatus(orderNo, 'cancelled');
      return orderNo;
    },

    async refund({ orderNo }: Sold): Promise<void> {
      const headers = { authorization, 'idempotency-key': 'once' };
      const path = `${url}/v1/admin/orders/${orderNo}/refunds`;
      const body = { reason: 'late', restock: true };
      expect((await send(path, 'POST', { headers, body })).status).toBe(202);
      await waitFor(`the refund of ${orderNo}`, async () => {
        const [payment] = await providerConsole.listPayments(orderNo);
        return payment !== undefined && payment.returned === payment.amount;
      });
    },
  };
}

test('with keys, queue and database of their own both sell and refund, and each leaves the other alone', async () => {
  const [ours, theirs] = [await openStores(), await openStores('theirs')];
  const own = { REDIS_KEY_PREFIX: 'theirs', TEMPORAL_TASK_QUEUE: 'theirs' };
  const ports = [await findFreePort(), await findFreePort()];
  const webhookUrl = await openFanOut(ports.map((port) => `http://127.0.0.1:${port}/v1/webhooks/payments`));
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: demoSecrets.providerApiKey,
    webhookUrl,
    webhookSecret: demoSecrets.webhook,
    retryDelaysMs: Array.from({ length: 600 }, () => 100),
    logger: silent,
  }).start(0);
  onTestFinished(() => sandbox.stop());
  const providerConsole = openConsole({ url: sandbox.url, apiKey: demoSecrets.providerApiKey });
  const often = { RECONCILE_EVERY_SECONDS: '1' };
  const envs = await Promise.all([
    buildEnv(ours, sandbox.url, { ...often, API_PORT: String(ports[0]) }),
    buildEnv(theirs, sandbox.url, { ...often, ...own, API_PORT: String(ports[1]) }),
  ]);
  const sale = buildSale({ saleId: 'lamps' });
  for (const taskQueue of ['orders', own.TEMPORAL_TASK_QUEUE]) dropScheduleLater(taskQueue);
  const both = await Promise.all(
    [ours, theirs].map(async (stores, i) => {
      await stores.openSale(sale);
      return openDeployment({ stores, env: envs[i] ?? {} }, providerConsole);
    }),
  );

  const sold = await Promise.all(both.map((deployment) => deployment.sell(sale.saleId)));
  const kept = await Promise.all(both.map((deployment) => deployment.sell(sale.saleId)));
  await Promise.all(both.map((deployment) => deployment.cancel(sale.saleId)));
  // Payment 1 of both at once.
  await Promise.all(
    both.map((deployment, i) => deployment.refund(sold[i] ?? { orderNo: '', paymentId: '' })),
  );

  for (const [i, { stores }] of both.entries()) {
    // Two sold, of which one came back; the cancelled one is back as well.
    await expectStock(stores, sale.saleId, { sku: 'lamp', available: 9, held: 0, sold: 1 });
    const payments = 'SELECT payment_id, provider_payment_id, order_no FROM payments ORDER BY payment_id';
    expect(await select(stores.pool, payments)).toEqual(
      [sold[i], kept[i]].map((one, index) => ({
        payment_id: index + 1,
        provider_payment_id: one?.paymentId,
        order_no: one?.orderNo,
      })),
    );
    expect(await select(stores.pool, 'SELECT kind, reference FROM parked')).toEqual([]);
  }
  for (const deployment of both) await expectCleanAudit(deployment);
  // Every key is one of the two.
  expect((await ours.redis.keys('*')).filter((key) => !/^(theirs:)?holdfast:/.test(key))).toEqual([]);
});
