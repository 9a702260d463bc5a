/**
 * MySQL is dumped in mid-sale by its own tool, and later all of ours is gone: API, worker, Redis, Temporal's
 * data and MySQL. The dump is restored on another server, as docs/operations.md says ("Back up and restore"),
 * and the sale goes on. Real processes; the provider keeps its book.
 */

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { expect, inject, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { openConsole, type SandboxConsole } from '../../sandbox/console.ts';
import { createSandboxProvider } from '../../sandbox/server.ts';
import { signToken } from '../../src/api/http/auth.ts';
import { rebuildSale } from '../../src/reconcile/rebuild-sale.ts';
import { openStores } from '../../src/stores/open.ts';
import { RECONCILE_SCHEDULE } from '../../src/workflows/contract.ts';
import { appEnv, demoSecrets, startApi, startWorker, type AppEnv } from '../../stack/app.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { findProgram, locateServers } from '../../stack/install/server-packages.ts';
import { runCommand } from '../../stack/processes/command.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import type { Processes } from '../../stack/processes/processes.ts';
import { mysqlPackage, startMysql } from '../../stack/servers/mysql.ts';
import { buildSale } from '../support/factories.ts';
import { startPrivateRedis } from '../support/private-redis.ts';
import { select } from '../support/rows.ts';
import {
  acceptedOf,
  JWT_SECRET,
  openShopper,
  pressPay,
  send,
  sessionOf,
  type Shopper,
} from '../support/shopper.ts';
import { expectStockEquation } from '../support/stock.ts';
import { openTestStores, silent } from '../support/stores.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

const PRICE = 4_900;
const SKUS = [
  { sku: 'lamp', name: 'Storm lamp', unitPrice: PRICE, total: 100, limitPerUser: null },
  { sku: 'globe', name: 'The only globe', unitPrice: PRICE, total: 1, limitPerUser: null },
];
/** The idempotency key of each shopper's purchase. */
const FIRST = 'first';
const COMMAND_MAX_MS = 120_000;
/** Quick repeats: the API is away while all is restored. */
const RETRY_DELAYS_MS = Array.from({ length: 1_000 }, () => 200);

type Stores = Awaited<ReturnType<typeof openStores>>;
const feedPage = z.object({
  events: z.array(
    z.object({
      type: z.string(),
      orderNo: z.string().optional(),
      data: z.object({ gap: z.object({ after: z.int(), upTo: z.int() }).optional() }),
    }),
  ),
});

interface Bought {
  shopper: Shopper;
  orderNo: string;
}

async function run(command: string, args: readonly string[], env: AppEnv = {}): Promise<string> {
  const result = await runCommand(command, args, {
    timeoutMs: COMMAND_MAX_MS,
    env: { ...process.env, ...env },
  });
  expect(result.ok, result.output).toBe(true);
  return result.output;
}

const runOurs = (script: string, env: AppEnv, args: readonly string[] = []) =>
  run(process.execPath, [join(repoDir, 'dist', 'src', script), ...args], env);

/** MySQL's own tools, as an operator calls them. */
function mysqlTool(names: readonly string[], url: string, args: readonly string[]): Promise<string> {
  const tool = findProgram(names);
  if (tool === undefined) throw new Error(`this test needs ${names.join(' or ')} on PATH`);
  const { hostname, port, username, password, pathname } = new URL(url);
  const server = [`--host=${hostname}`, `--port=${port}`, `--user=${username}`, `--password=${password}`];
  return run(tool, [...server, ...args, pathname.slice(1)]);
}

const dump = (url: string, file: string) =>
  mysqlTool(['mariadb-dump', 'mysqldump'], url, [
    '--single-transaction',
    '--hex-blob',
    `--result-file=${file}`,
  ]);
const load = (url: string, file: string) =>
  mysqlTool(['mariadb', 'mysql'], url, [`--execute=source ${file}`]);

/** Where the shop and the provider find the API, whichever machine it is on. */
async function openAddresses() {
  const apiUrl = `http://127.0.0.1:${await findFreePort()}`;
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: demoSecrets.providerApiKey,
    webhookUrl: `${apiUrl}/v1/webhooks/payments`,
    webhookSecret: demoSecrets.webhook,
    retryDelaysMs: RETRY_DELAYS_MS,
    logger: silent,
  }).start(0);
  onTestFinished(() => sandbox.stop());
  const provider = openConsole({ url: sandbox.url, apiKey: demoSecrets.providerApiKey });
  return { urls: { apiUrl, providerUrl: sandbox.url }, provider };
}

interface Machines {
  redisUrl: string;
  mysqlUrl: string;
  namespace: string;
  urls: { apiUrl: string; providerUrl: string };
}

function envOf({ redisUrl, mysqlUrl, namespace, urls }: Machines): AppEnv {
  const servers = {
    redisUrl,
    mysqlUrl,
    temporalAddress: inject('temporalAddress'),
    temporalUiUrl: undefined,
  };
  const env = appEnv({ servers, urls });
  return { ...env, TEMPORAL_NAMESPACE: namespace, JWT_SECRET, RECONCILE_EVERY_SECONDS: '1' };
}

async function openProcesses(): Promise<{ processes: Processes; close: () => Promise<void> }> {
  const opened = await openTestProcesses((crash) => console.error(crash.message));
  onTestFinished(opened.close);
  return opened;
}

/** Else it would go on starting workflows on the server that all test files share. */
async function dropSchedule(namespace: string): Promise<void> {
  const { client, close } = await openEngine(namespace);
  await client.schedule.getHandle(RECONCILE_SCHEDULE).delete();
  await close();
}

async function openFirst(urls: Machines['urls']) {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const [stores, namespace] = await Promise.all([
    openTestStores({ REDIS_URL: [redis.url] }),
    createNamespace(),
  ]);
  const machines = { redisUrl: redis.url, mysqlUrl: stores.config.MYSQL_URL, namespace, urls };
  const env = envOf(machines);
  const { processes, close } = await openProcesses();
  let isThere = true;
  async function destroy(): Promise<void> {
    if (!isThere) return;
    isThere = false;
    await Promise.all(['api', 'worker'].map((part) => processes.kill(part)));
    await close();
    await redis.stop();
    await stores.close();
    await dropSchedule(namespace);
  }
  onTestFinished(destroy);
  await Promise.all([
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);
  return { stores, mysqlUrl: machines.mysqlUrl, processes, destroy };
}

/** @param file the dump; it is loaded into another server, beside an empty Redis and an empty namespace */
async function restoreElsewhere(urls: Machines['urls'], file: string) {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const { processes } = await openProcesses();
  const [found] = await locateServers([mysqlPackage], () => {});
  if (!found) throw new Error('MySQL was asked for');
  const mysqlUrl = await startMysql({ processes, found, fresh: true, durable: false });
  await load(mysqlUrl, file);
  const namespace = await createNamespace();
  const env = envOf({ redisUrl: redis.url, mysqlUrl, namespace, urls });
  await runOurs('prepare.js', { ...env, MYSQL_URL: mysqlUrl });
  await startApi(processes, { name: 'api', env });
  const config = {
    REDIS_URL: [redis.url],
    MYSQL_URL: mysqlUrl,
    ENGINE_BUDGET: 50,
    MYSQL_STORES_PER_SECOND: 100,
  };
  const stores = await openStores(config, silent);
  onTestFinished(async () => {
    await stores.close();
    await processes.stopAll();
    await dropSchedule(namespace);
  });
  return { stores, env, openWorker: () => startWorker(processes, { name: 'worker', env }) };
}

/** Shoppers and staff of the shop. */
function openShop(apiUrl: string, saleId: string, provider: SandboxConsole) {
  const accepted: string[] = [];

  const shop = {
    /** The orderNos that were answered with 202. */
    accepted,

    async order(shopper: Shopper, key: string, sku = 'lamp'): Promise<Bought> {
      const body = { saleId, items: [{ sku, quantity: 1 }] };
      const reply = await shopper.placeUntilAnswered(body, { 'idempotency-key': key });
      const { orderNo } = acceptedOf(reply);
      accepted.push(orderNo);
      return { shopper, orderNo };
    },

    async buy(sku?: string): Promise<Bought> {
      const bought = await shop.order(await openShopper(apiUrl), FIRST, sku);
      await bought.shopper.awaitStatus(bought.orderNo, 'awaiting_payment');
      return bought;
    },

    async openPage({ shopper, orderNo }: Bought): Promise<string> {
      await shopper.awaitStatus(orderNo, 'awaiting_payment');
      return sessionOf(await shopper.pay(orderNo)).url;
    },

    async pay(bought: Bought): Promise<void> {
      await pressPay(await shop.openPage(bought));
      await bought.shopper.awaitStatus(bought.orderNo, 'paid');
    },

    async buyAndPay(sku?: string): Promise<Bought> {
      const bought = await shop.buy(sku);
      await shop.pay(bought);
      return bought;
    },

    async cancel({ shopper, orderNo }: Bought): Promise<void> {
      await shopper.cancel(orderNo);
      await shopper.awaitStatus(orderNo, 'cancelled');
    },

    async asStaff(method: string, path: string, body?: object): Promise<unknown> {
      const token = await signToken(JWT_SECRET, 'olga', '1h', { roles: ['admin'] });
      const headers = { authorization: `Bearer ${token}`, 'idempotency-key': 'once' };
      const reply = await send(`${apiUrl}/v1/admin/${path}`, method, { headers, ...(body && { body }) });
      expect([200, 202], `${path}: ${JSON.stringify(reply.body)}`).toContain(reply.status);
      return reply.body;
    },

    async refund(bought: Bought): Promise<void> {
      await shop.asStaff('POST', `orders/${bought.orderNo}/refunds`, {});
      await waitFor(`the money of ${bought.orderNo} to go back`, async () =>
        (await shop.moneyOf(bought)).every(([amount, returned]) => amount === returned),
      );
    },

    /** What the provider collected for the order, and how much of it went back. */
    async moneyOf({ orderNo }: Bought): Promise<[number, number][]> {
      const payments = await provider.listPayments(orderNo);
      return payments.map(({ amount, returned }) => [amount, returned]);
    },

    async readFeed(after: number) {
      return feedPage.parse(await shop.asStaff('GET', `events?after=${after}&limit=500`)).events;
    },
  };
  return shop;
}

async function awaitNumbers({ eventRows }: Stores): Promise<number> {
  await waitFor('the numbers', async () => (await eventRows.countWaiting(1)) === 0);
  return eventRows.readLastSequence();
}

function awaitPayments({ pool }: Stores, count: number): Promise<boolean> {
  return waitFor(`${count} payments to be known`, async () => {
    const [known] = await select(pool, 'SELECT COUNT(*) AS count FROM payments');
    return known?.['count'] === count;
  });
}

/** What the provider collected, by its book, is known; and for a minute no order has come for it. */
async function letMoneyBeKnown(stores: Stores, provider: SandboxConsole): Promise<void> {
  await awaitPayments(stores, (await provider.listPayments()).length);
  await stores.pool.query('UPDATE payments SET received_at = received_at - INTERVAL 2 MINUTE');
}

/** The numbers that MySQL has given to payments and refunds, with the order of each. */
async function readNumbers({ pool }: Stores): Promise<Map<string, unknown>> {
  const rows = await select(
    pool,
    `SELECT CONCAT('payment ', payment_id) AS number, order_no FROM payments UNION ALL
     SELECT CONCAT('refund ', refund_id), order_no FROM refunds`,
  );
  return new Map(rows.map((row) => [String(row['number']), row['order_no']]));
}

test('a dump of MySQL alone, restored elsewhere: the sale goes on, and no money and no unit is lost or given twice', async () => {
  const { urls, provider } = await openAddresses();
  const first = await openFirst(urls);
  const { saleId } = await first.stores.openSale(buildSale({ skus: SKUS }));
  const shop = openShop(urls.apiUrl, saleId, provider);
  const folder = await mkdtemp(join(tmpdir(), 'holdfast-restore-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const dumpFile = join(folder, 'holdfast.sql');

  // Before the dump.
  const [toPay, toCancel, atPage, stillOpen, cancelled] = await five(() => shop.buy());
  const [kept, toRefund, refunded] = await three(() => shop.buyAndPay());
  const page = await shop.openPage(atPage);
  await Promise.all([shop.cancel(cancelled), shop.refund(refunded)]);
  const dumped = await awaitNumbers(first.stores);

  // Shoppers go on buying while it is made.
  const crowd = five(() => shop.buy());
  await dump(first.mysqlUrl, dumpFile);
  const during = await crowd;

  // After it: all of this is lost in MySQL. Redis has failed over twice meanwhile.
  await Promise.all([shop.pay(toPay), shop.cancel(toCancel), shop.refund(toRefund)]);
  const [newOpen, newAtPage, newCancelled] = await three(() => shop.buy());
  for (const epoch of [2, 3]) {
    const outcome = await rebuildSale({ ...first.stores, log: silent }, saleId, {
      cause: 'unfinished',
    });
    expect(outcome).toMatchObject({ kind: 'rebuilt', epoch });
  }
  const [newPaid, newRefunded, repeatedPaid] = await three(() => shop.buyAndPay());
  const onlyGlobe = await shop.buyAndPay('globe');
  const newPage = await shop.openPage(newAtPage);
  const repeated = await shop.buy();
  await Promise.all([shop.cancel(newCancelled), shop.refund(newRefunded)]);
  const read = await awaitNumbers(first.stores);
  const numbers = await readNumbers(first.stores);
  await shop.asStaff('PUT', 'events/consumers/fulfilment', { position: read });
  first.processes.freeze('worker');
  const inOutbox = await shop.order(await openShopper(urls.apiUrl), FIRST);

  await first.destroy();
  const { stores, env, openWorker } = await restoreElsewhere(urls, dumpFile);
  // Before a worker runs, pages that were open are paid: of an order that MySQL has, and of a lost one.
  await Promise.all([pressPay(page), pressPay(newPage)]);
  await awaitPayments(stores, 5);
  await openWorker();

  // Shoppers are faster than the provider's book: one gets the only globe, two repeat a purchase.
  const globe = await shop.buyAndPay('globe');
  const again = await Promise.all([repeated, repeatedPaid].map(({ shopper }) => shop.order(shopper, FIRST)));
  for (const one of again) await shop.pay(one);
  // And staff refund an order.
  await shop.refund(kept);
  await letMoneyBeKnown(stores, provider);

  const sold = [kept, toPay, atPage, newAtPage, newPaid, globe, ...again];
  const back = [refunded, toRefund, newRefunded, repeatedPaid, onlyGlobe];
  await waitFor('what was paid to be sold', async () => {
    const states = await Promise.all(
      sold.map(async ({ orderNo }) => (await stores.orders.read(orderNo))?.state),
    );
    return states.every((state) => state?.status === 'paid');
  });
  await Promise.all(sold.map(({ shopper, orderNo }) => shopper.awaitStatus(orderNo, 'paid')));
  await waitFor('the money of lost orders to be back', async () =>
    (await Promise.all(back.map(shop.moneyOf))).flat().every(([amount, returned]) => amount === returned),
  );
  // What MySQL has is open. A wish to cancel is lost, and is said again.
  expect(await statusesOf([stillOpen, toCancel])).toEqual(['awaiting_payment', 'awaiting_payment']);
  await shop.cancel(toCancel);
  // Numbers that other payments and refunds had before are given again.
  const twice = [...(await readNumbers(stores))].flatMap(([number, orderNo]) =>
    (numbers.get(number) ?? orderNo) === orderNo ? [] : [number.split(' ')[0]],
  );
  expect(new Set(twice)).toEqual(new Set(['payment', 'refund']));

  // To the cent, once, by the provider's book.
  expect(await Promise.all([...back, kept].map(shop.moneyOf))).toEqual(
    [...back, kept].map(() => [[PRICE, PRICE]]),
  );
  const collected = (await provider.listPayments()).map(({ amount, returned }) => amount - returned);
  expect(collected.reduce((sum, amount) => sum + amount, 0)).toBe((sold.length - 1) * PRICE);
  await waitFor('the units to be sold in both stores', async () => {
    const { redis, mysql } = await expectStockEquation(stores, saleId);
    // What was given back after it was paid stays sold, until staff sell it again.
    return [redis, mysql].every((counts) =>
      isDeepStrictEqual(
        counts.map((one) => one.sold),
        [9, 1],
      ),
    );
  });

  // Who has read further than MySQL knows is told what of it is gone, and misses nothing that comes.
  await awaitNumbers(stores);
  const events = await shop.readFeed(read);
  expect(events[0]?.type).toBe('feed.gap');
  const { after, upTo } = events[0]?.data.gap ?? { after: read, upTo: read };
  expect(after).toBeGreaterThanOrEqual(dumped);
  expect(after).toBeLessThan(read);
  expect(upTo).toBeGreaterThan(read);
  const told = new Set(events.filter(({ type }) => type === 'order.paid').map(({ orderNo }) => orderNo));
  const untold = sold.filter((one) => one !== kept && !told.has(one.orderNo));
  expect(untold.map(({ orderNo }) => orderNo)).toEqual([]);

  // As if the rebuild were long past: until then a lost order is not said to be lost.
  await stores.pool.query('UPDATE sales SET rebuilt_at = NOW(3) - INTERVAL 1 HOUR');
  const lost = [newOpen, newCancelled, newRefunded, repeated, onlyGlobe, inOutbox];
  for (const { shopper, orderNo } of lost)
    expect(await shopper.readOrder(orderNo)).toMatchObject({
      status: 'failed',
      reason: 'lost_before_stored',
    });
  const duringLost = [];
  for (const one of during) if (!(await stores.orders.read(one.orderNo))) duringLost.push(one);

  const acceptedFile = join(folder, 'accepted.txt');
  await writeFile(acceptedFile, `${shop.accepted.join('\n')}\n`);
  const printed = await runOurs('audit/main.js', env, ['--accepted', acceptedFile]);
  const named = printed.split('\n').flatMap((line) => / lost: (\S+):/.exec(line)?.[1] ?? []);
  expect(named.toSorted()).toEqual([...lost, ...duringLost].map(({ orderNo }) => orderNo).toSorted());
  expect(printed).toMatch(/^clean: /m);
});

const three = <T>(make: () => Promise<T>): Promise<[T, T, T]> => Promise.all([make(), make(), make()]);
const five = <T>(make: () => Promise<T>): Promise<[T, T, T, T, T]> =>
  Promise.all([make(), make(), make(), make(), make()]);

const statusesOf = (all: readonly Bought[]) =>
  Promise.all(all.map(async ({ shopper, orderNo }) => (await shopper.readOrder(orderNo)).status));
