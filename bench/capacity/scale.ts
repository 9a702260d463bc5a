/**
 * The parts `accept-…`, `store-…` and `pay-…`: one process against two and four of it. Each is held to a
 * fifth of a core, or the stores are 20 ms away, so that the process and not the machine is the limit.
 */

import assert from 'node:assert/strict';
import { availableParallelism } from 'node:os';
import { z } from 'zod';
import { createLinks } from '../../chaos/links.ts';
import { selectRows } from '../../src/mysql/connection.ts';
import { saleKeys, wholeSale } from '../../src/redis/keys.ts';
import { startApi, startWorker } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import { startToxiproxy } from '../../stack/servers/toxiproxy.ts';
import type { Column, Figures, OpenPart, Part } from '../compare/part.ts';
import { openCheckoutStack, type CheckoutStack } from '../compare/parts/payable/checkout-stack.ts';
import { readBusySeconds, readCpuSeconds } from '../http/cpu.ts';
import { startLoadGenerator } from '../load.ts';
import { createPaymentNotifier } from '../notices.ts';
import { seedOutbox } from '../seed-outbox.ts';
import { runConcurrently, signTokens } from '../shoppers.ts';
import { holdProcesses, type HeldProcesses } from './held-processes.ts';

const COUNTS = [1, 2, 4] as const;
const MOST = 4;
const COUNT_NAMES = { 1: 'one', 2: 'two', 4: 'four' };
const SHARE = 0.2;
const FAR_MS = 20;
/** More than any load takes. */
const UNITS = 10_000_000;
const TIMEOUT_MS = 2 * 60_000;
const LIMITS = ['held', 'far'] as const;
type Limit = (typeof LIMITS)[number];
const HOW: Record<Limit, string> = {
  held: 'each held to a fifth of a core',
  far: `Redis and MySQL ${FAR_MS} ms away`,
};

const SHARE_COLUMNS: readonly Column[] = [
  { key: 'each', label: 'each of them', unit: '%', digits: 0 },
  { key: 'redis', label: 'Redis', unit: '%', digits: 0 },
  { key: 'mysql', label: 'MySQL', unit: '%', digits: 0 },
  { key: 'temporal', label: 'Temporal', unit: '%', digits: 0 },
  { key: 'machine', label: 'all cores', unit: '%', digits: 0 },
  { key: 'waiting', label: 'transactions that wait for a row', unit: '', digits: 1 },
];

/** The servers that all processes share, and what holds the processes. */
interface World extends CheckoutStack {
  limit: Limit;
  held: HeldProcesses;
  /** Of the processes that are counted. */
  countedEnv: CheckoutStack['env'];
}

interface Kind {
  name: string;
  title: string;
  about: string;
  column: Column;
  process: string;
  /** Starts what all measurements share. @returns a measurement of so many processes, and what ends it all */
  open(world: World): Promise<{ measure(count: number): Promise<Figures>; close?(): Promise<void> }>;
}

// Each purchase is a call of a connection that asks again as soon as it is answered, to the API that it has.

const ACCEPT_SECONDS = 5;
/** Until each has had some thirty thousand: only then has Node's compiler seen all of it. */
const ACCEPT_WARM_UP_SECONDS = 25;
/**
 * As many as an API takes at once. One that waits for its stores is given fewer places, as the machine is
 * small.
 */
const PLACES: Record<Limit, number> = { held: 64, far: 16 };

const acceptKind: Kind = {
  name: 'accept',
  title: 'APIs',
  about: `Purchases of one unit of one SKU for ${ACCEPT_SECONDS} s, from as many connections to each API as it takes at once.`,
  column: { key: 'rate', label: 'accepted', unit: '/s', digits: 0 },
  process: 'API',
  async open(world) {
    const { processes, countedEnv, limit, held } = world;
    const connections = PLACES[limit];
    const generators = Array.from({ length: MOST }, startLoadGenerator);
    const tokens = await signTokens(1_000);
    const apis: { name: string; port: number }[] = [];
    for (let i = 1; i <= MOST; i += 1) {
      const [name, port] = [`api-${i}`, await findFreePort()];
      const env = { ...countedEnv, API_PORT: String(port), PURCHASES_AT_ONCE: String(connections) };
      await startApi(processes, { name, env });
      apis.push({ name, port });
    }
    const buy = async (count: number, seconds: number) => {
      const saleId = await world.openSale(UNITS);
      const loads = apis.slice(0, count).map(({ port }, i) => {
        const load = { host: '127.0.0.1', port, saleId, tokens, connections, rate: null, seconds };
        const report = generators[i]?.run(load);
        assert(report);
        return report;
      });
      const reports = await Promise.all(loads);
      for (const { unanswered } of reports) assert.equal(unanswered, 0, 'every purchase is answered');
      return reports.reduce((sum, { accepted }) => sum + accepted.length, 0);
    };
    await buy(MOST, ACCEPT_WARM_UP_SECONDS);
    if (limit === 'held') for (const { name } of apis) held.hold(processes.pid(name), SHARE);
    return {
      async measure(count) {
        await world.clear();
        const shares = await watchShares(
          world,
          apis.slice(0, count).map(({ name }) => name),
        );
        const startedMs = performance.now();
        const accepted = await buy(count, ACCEPT_SECONDS);
        const figures = await shares.end((performance.now() - startedMs) / 1_000);
        return { rate: accepted / ACCEPT_SECONDS, ...figures };
      },
      async close() {
        await Promise.all(generators.map((generator) => generator.stop()));
      },
    };
  },
};

// Orders wait in the outbox of one sale, and the workers are let loose together.

const STORED_ORDERS = 16_000;
const STORED_WARM_UP = 5_000;

const storeKind: Kind = {
  name: 'store',
  title: 'Workers that store',
  about: `${STORED_ORDERS.toLocaleString('en')} orders of one SKU wait in one outbox until all are stored, with Temporal frozen.`,
  column: { key: 'rate', label: 'stored', unit: '/s', digits: 0 },
  process: 'worker',
  open: async (world) => ({
    async measure(count) {
      const { processes } = world;
      const names = await startWorkers(world, count);
      processes.freeze('temporal');
      await store(world, { count, orders: STORED_WARM_UP * count, names: [] });
      hold(world, names);
      const measured = await store(world, { count, orders: STORED_ORDERS, names });
      processes.thaw('temporal');
      await endWorkers(world, names);
      await world.clear();
      return measured;
    },
  }),
};

/** @param names of those that are let loose at once; none: they are at work from the first order on */
async function store(
  world: World,
  { count, orders, names }: { count: number; orders: number; names: readonly string[] },
): Promise<Figures> {
  const { processes, redis } = world;
  const saleId = await openFollowed(world, count);
  for (const name of names) processes.freeze(name);
  await seedOutbox(redis, { saleId, count: orders });
  const shares = await watchShares(world, names);
  const startedMs = performance.now();
  for (const name of names) processes.thaw(name);
  await world.untilHeld(saleId, orders);
  const seconds = (performance.now() - startedMs) / 1_000;
  return { rate: orders / seconds, ...(await shares.end(seconds)) };
}

// Orders are stored and payable, and their webhooks come as fast as the API takes them.

const PAID_ORDERS = 160;
const PAID_WARM_UP = 80;
/** Webhooks at once; as many orders as the engine budget has slots. */
const PAID_AT_ONCE = 40;

const payKind: Kind = {
  name: 'pay',
  title: 'Workers that take orders to their end',
  about: `${PAID_ORDERS} orders are stored, and paid by webhook ${PAID_AT_ONCE} at once: begun, marked paid and ended in Temporal, until all are.`,
  column: { key: 'rate', label: 'whole lives', unit: '/s', digits: 1 },
  process: 'worker',
  async open(world) {
    await startApi(world.processes, { name: 'api', env: world.env });
    const notifier = createPaymentNotifier(world.apiUrl, PAID_AT_ONCE);
    return {
      async measure(count) {
        const names = await startWorkers(world, count);
        const payAll = (orders: number) => pay(world, { count, orders, names, send: notifier.sendPaid });
        await payAll(PAID_WARM_UP * count);
        hold(world, names);
        const measured = await payAll(PAID_ORDERS);
        await endWorkers(world, names);
        await world.clear();
        return measured;
      },
      close: async () => notifier.close(),
    };
  },
};

async function pay(
  world: World,
  options: {
    count: number;
    orders: number;
    names: readonly string[];
    send: (orderNo: string) => Promise<void>;
  },
): Promise<Figures> {
  const { count, orders, names, send } = options;
  const saleId = await openFollowed(world, count);
  await seedOutbox(world.redis, { saleId, count: orders });
  await world.untilHeld(saleId, orders);
  const row = z.object({ order_no: z.string(), status: z.string() });
  const read = () =>
    selectRows(world.pool, row, 'SELECT order_no, status FROM orders WHERE sale_id = ?', [saleId]);
  const stored = await read();
  const shares = await watchShares(world, names);
  const startedMs = performance.now();
  await runConcurrently(stored.length, PAID_AT_ONCE, (i) => send(stored[i]?.order_no ?? ''));
  await waitUntil({
    what: 'all orders to be paid',
    timeoutMs: TIMEOUT_MS,
    check: async () => (await read()).every(({ status }) => status === 'paid'),
  });
  const seconds = (performance.now() - startedMs) / 1_000;
  return { rate: orders / seconds, ...(await shares.end(seconds)) };
}

/** In the order of the page: what a fifth of a core does, then what the distance does. */
export const SCALE_PARTS: readonly Part[] = LIMITS.flatMap((limit) =>
  [acceptKind, storeKind, payKind].map((kind) => toPart(kind, limit)),
);

function toPart({ name, title, about, column, process, open }: Kind, limit: Limit): Part {
  return {
    name: `${name}-${limit}`,
    title: `${title}, ${HOW[limit]}`,
    about,
    columns: [column, ...SHARE_COLUMNS],
    charted: column.key,
    targets: [],
    async open(progress): Promise<OpenPart> {
      const stack = await openCheckoutStack(progress);
      const held = holdProcesses();
      const close = async (): Promise<void> => {
        held.release();
        await stack.close();
      };
      try {
        const countedEnv = limit === 'far' ? await placeFar(stack, progress) : stack.env;
        const opened = await open({ ...stack, limit, held, countedEnv });
        return {
          contestants: COUNTS.map((count) => ({
            name: `${COUNT_NAMES[count]} ${process}${count === 1 ? '' : 's'}`,
            role: count === 1 ? 'ours' : 'variant',
            measure: () => opened.measure(count),
          })),
          async close() {
            await opened.close?.();
            await close();
          },
        };
      } catch (error) {
        await close();
        throw error;
      }
    },
  };
}

/** @returns an environment whose stores answer so much later, through proxies that all processes share */
async function placeFar(
  { env, processes }: CheckoutStack,
  progress: (line: string) => void,
): Promise<CheckoutStack['env']> {
  const links = createLinks(await startToxiproxy(processes, progress));
  const far = async (variable: 'REDIS_URL' | 'MYSQL_URL'): Promise<string> => {
    const url = new URL(env[variable] ?? '');
    const port = await findFreePort();
    const link = await links.open('bench', variable, port, url.host);
    await link.delay(FAR_MS);
    url.port = String(port);
    return url.href;
  };
  return { ...env, REDIS_URL: await far('REDIS_URL'), MYSQL_URL: await far('MYSQL_URL') };
}

async function startWorkers({ processes, countedEnv }: World, count: number): Promise<string[]> {
  const names = Array.from({ length: count }, (_, i) => `worker-${i + 1}`);
  await Promise.all(names.map((name) => startWorker(processes, { name, env: countedEnv })));
  return names;
}

/** Only once they are warm, as a worker of a sale is. */
function hold({ limit, held, processes }: World, names: readonly string[]): void {
  if (limit === 'held') for (const name of names) held.hold(processes.pid(name), SHARE);
}

async function endWorkers({ held, processes }: World, names: readonly string[]): Promise<void> {
  held.release();
  await Promise.all(names.map((name) => processes.kill(name)));
}

/**
 * Opens a sale that does not sell out, and waits until all workers follow it and its opening is announced:
 * either news locks the sale's row, for which all storing waits, and comes once a sale.
 */
async function openFollowed(world: World, workers: number): Promise<string> {
  const saleId = await world.openSale(UNITS);
  await untilFollowedBy(world, saleId, workers);
  const row = z.object({ opened: z.coerce.number() });
  const sql = 'SELECT opened_at IS NOT NULL AS opened FROM sales WHERE sale_id = ?';
  await waitUntil({
    what: 'the opening of the sale to be announced',
    timeoutMs: TIMEOUT_MS,
    check: async () => (await selectRows(world.pool, row, sql, [saleId]))[0]?.opened === 1,
  });
  return saleId;
}

/** Each worker reads the outbox under a name of its own. */
async function untilFollowedBy({ redis }: World, saleId: string, workers: number): Promise<void> {
  const { outbox } = saleKeys(wholeSale(saleId));
  await waitUntil({
    what: `${workers} workers to follow the sale`,
    timeoutMs: TIMEOUT_MS,
    check: async () => {
      // There is no group before the first comes.
      const readers: unknown = await redis.xinfo('CONSUMERS', outbox, 'relay').catch(() => []);
      return Array.isArray(readers) && readers.length >= workers;
    },
  });
}

/**
 * From now until `end`: the processor's shares, in percent of a core and of the whole machine, and how many
 * transactions waited for a row of MySQL on average.
 */
async function watchShares({ processes, pool }: World, names: readonly string[]) {
  const shared = ['redis', 'mysql', 'temporal'];
  const readAll = (of: readonly string[]): number =>
    of.reduce((sum, name) => sum + readCpuSeconds(processes.pid(name)), 0);
  const readWaited = async (): Promise<number> => {
    const row = z.object({ Value: z.coerce.number() });
    const [waited] = await selectRows(pool, row, "SHOW GLOBAL STATUS LIKE 'Innodb_row_lock_time'", []);
    return (waited?.Value ?? NaN) / 1_000;
  };
  const read = async (): Promise<number[]> => [
    ...shared.map((name) => readAll([name])),
    readAll(names),
    readBusySeconds(),
    await readWaited(),
  ];
  const before = await read();
  return {
    async end(seconds: number): Promise<Figures> {
      const now = await read();
      const [redis = NaN, mysql = NaN, temporal = NaN, own = NaN, busy = NaN, waited = NaN] = now.map(
        (each, i) => (each - (before[i] ?? 0)) / seconds,
      );
      return {
        each: (100 * own) / Math.max(1, names.length),
        redis: 100 * redis,
        mysql: 100 * mysql,
        temporal: 100 * temporal,
        machine: (100 * busy) / availableParallelism(),
        waiting: waited,
      };
    },
  };
}
