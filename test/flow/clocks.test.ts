/**
 * Real processes whose clocks are two minutes off: an order goes its whole way, each event is pushed once,
 * and nothing ends too early.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { signToken } from '../../src/api/http/auth.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { appEnv, startApi, startWorker } from '../../stack/app.ts';
import { locateServers } from '../../stack/install/server-packages.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import type { Processes } from '../../stack/processes/processes.ts';
import { mysqlPackage, startMysql } from '../../stack/servers/mysql.ts';
import { openProvider } from '../crash/crash-world.ts';
import { buildSale } from '../support/factories.ts';
import { openPrivateStage } from '../support/private-stage.ts';
import { openReceiver } from '../support/receiver.ts';
import { selectOne } from '../support/rows.ts';
import { JWT_SECRET, openShopper, pressPay, send, sessionOf } from '../support/shopper.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { tool } from '../support/tools.ts';
import { waitFor } from '../support/wait.ts';

/** How long the endpoint works on what it gets: several looks of a worker at what is due. */
const ENDPOINT_WORKS_MS = 1_000;
/** Less than the clocks are off, and long enough to open a payment page on a busy machine. */
const BRIEF_WINDOW_MS = 60_000;

/** By how many seconds each is ahead of the machine, on which Redis, Temporal and the provider are. */
interface Clocks {
  api: number;
  worker: number;
  mysql: number;
}

type OnClose = (close: () => Promise<void>) => void;

test.concurrent.for<Clocks>([
  { api: 120, worker: -120, mysql: 0 },
  { api: 0, worker: 0, mysql: 120 },
  { api: 0, worker: 120, mysql: -120 },
])(
  'with the API $api s ahead, the worker $worker s and MySQL $mysql s',
  async (clocks, { onTestFinished }) => {
    const { stores, apiUrl } = await openShop(clocks, onTestFinished);
    const receiver = await openReceiver((_, response) => {
      void delay(ENDPOINT_WORKS_MS).then(() => response.writeHead(204).end());
    });
    onTestFinished(() => receiver.close());
    const terms = { url: receiver.url, types: null, saleId: null, description: '' };
    await stores.endpoints.put('office', terms, createSecret(), 'ada');
    const { saleId } = await stores.openSale(buildSale());
    const brief = await stores.openSale(buildSale({ paymentWindowMs: BRIEF_WINDOW_MS }));
    const shopper = await openShopper(apiUrl);

    const unpaid = await shopper.buy(brief.saleId);
    const { deadline } = await shopper.awaitStatus(unpaid, 'awaiting_payment');
    // Its page opens: no clock has ended it.
    const page = await shopper.pay(unpaid);
    expect(page.status, JSON.stringify(page.body)).toBe(201);

    const orderNo = await shopper.buy(saleId);
    await shopper.awaitStatus(orderNo, 'awaiting_payment');
    await pressPay(sessionOf(await shopper.pay(orderNo)).url);
    await shopper.awaitStatus(orderNo, 'paid');
    const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
    const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'whole' };
    const asked = await send(`${apiUrl}/v1/admin/orders/${orderNo}/refunds`, 'POST', { headers, body: {} });
    expect(asked.status).toBe(202);
    await waitFor('the refund', async () => (await shopper.readOrder(orderNo)).payment === 'refunded');

    await shopper.awaitStatus(unpaid, 'cancelled');
    expect(Date.now()).toBeGreaterThanOrEqual(Date.parse(deadline));

    const last = await shopper.readOrder(orderNo);
    const ended = await shopper.readOrder(unpaid);
    await waitFor('every event of both orders', () =>
      [`${orderNo}.${last.version}`, `${unpaid}.${ended.version}`].every((id) => receiver.ids().includes(id)),
    );
    await waitFor('nothing to wait for the endpoint', async () => {
      const health = (await stores.endpoints.read('office'))?.health;
      return health?.waiting === 0 && health.behind === 0;
    });
    expect(receiver.ids().toSorted()).toEqual([...new Set(receiver.ids())].toSorted());
    expect((await stores.endpoints.read('office'))?.health).toMatchObject({ failures: 0, isDown: false });
    expect(await stores.parkedWork.list({ limit: 10 })).toEqual([]);
    // Nothing is claimed or due any more, and no claim was left to run out.
    expect(await selectOne(stores.pool, 'SELECT COUNT(engine_due_at) AS n FROM orders')).toEqual({ n: 0 });
    expect(await selectOne(stores.pool, 'SELECT COUNT(engine_due_at) AS n FROM payments')).toEqual({ n: 0 });
  },
);

async function openShop(clocks: Clocks, onClose: OnClose) {
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  onClose(close);
  const mysqlUrl = clocks.mysql === 0 ? undefined : await startMysqlAhead(processes, clocks.mysql);
  const { stores, namespace, servers } = await openPrivateStage(onClose, mysqlUrl);
  const apiUrl = `http://127.0.0.1:${await findFreePort()}`;
  const { providerUrl } = await openProvider(apiUrl, stores, onClose);
  const env = {
    ...appEnv({ servers, urls: { apiUrl, providerUrl } }),
    TEMPORAL_NAMESPACE: namespace,
    JWT_SECRET,
  };
  await Promise.all([
    startApi(processes, { name: 'api', env: { ...env, ...ahead(clocks.api) } }),
    startWorker(processes, { name: 'worker', env: { ...env, ...ahead(clocks.worker) } }),
  ]);
  // They end before the stores that they use.
  onClose(async () => {
    await Promise.all([processes.stop('api'), processes.stop('worker')]);
  });
  return { stores, apiUrl };
}

async function startMysqlAhead(processes: Processes, seconds: number): Promise<string> {
  const [found] = await locateServers([mysqlPackage], () => {});
  if (!found) throw new Error('MySQL was asked for');
  return startMysql({
    processes: {
      ...processes,
      start: (options) => processes.start({ ...options, env: { ...process.env, ...ahead(seconds) } }),
    },
    found,
    fresh: true,
    durable: false,
  });
}

/** The environment of a process whose clock is so far ahead; how fast time passes stays true. */
function ahead(seconds: number): Record<string, string> {
  if (seconds === 0) return {};
  const library = tool('libfaketime');
  const offset = `${seconds > 0 ? '+' : ''}${seconds}s`;
  return { LD_PRELOAD: library, FAKETIME: offset, FAKETIME_DONT_FAKE_MONOTONIC: '1' };
}
