/**
 * The part `bytes`: what an order takes of Redis, of MySQL and of their disks, stage by stage of its life.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { pino } from 'pino';
import { z } from 'zod';
import { createActivities } from '../../src/activities/index.ts';
import { DEFAULT_STORES_PER_SECOND } from '../../src/config.ts';
import { modify, selectRows } from '../../src/mysql/connection.ts';
import { openProvider } from '../../src/providers/open.ts';
import { createOrderSigner } from '../../src/providers/signed-order.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { saleKeys, wholeSale } from '../../src/redis/keys.ts';
import { openStores, type Stores } from '../../src/stores/open.ts';
import { demoSecrets, startWorker } from '../../stack/app.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import { receivePayment } from '../compare/engine/lives.ts';
import type { Figures, OpenPart, Part } from '../compare/part.ts';
import { openCheckoutStack, type CheckoutStack } from '../compare/parts/payable/checkout-stack.ts';
import { untilFollowed } from '../compare/parts/payable/holdfast.ts';
import { seedOutbox } from '../seed-outbox.ts';
import { runConcurrently } from '../shoppers.ts';
import { readBinlogBytes } from './binlog.ts';

/**
 * So many that the extents of a megabyte in which MySQL takes its room make no more than some hundred bytes.
 */
const ORDERS = 10_000;
/** Each is paid by a transaction of its own. */
const PAID_ORDERS = 6_000;
const PAID_AT_ONCE = 16;
/** Long enough to store them. */
const WINDOW_MS = 32_000;
const TIMEOUT_MS = 3 * 60_000;
/** Orders whose start was claimed when Temporal was frozen do not end without it. */
const CLAIMED_MAX = 40;

export const STAGES = {
  accepted: 'accepted, waits in the outbox',
  stored: 'stored, open',
  ended: 'ended unpaid, without a workflow',
  paid: 'paid by a page',
  pushed: 'paid, its events pushed to an endpoint',
} as const;

export const bytesPart: Part = {
  name: 'bytes',
  title: 'Bytes: what an order takes',
  about:
    'Orders of one unit, each of a shopper of its own, from the beginning of their life up to the stage: what is kept, ' +
    'and what was written to each log on the way.',
  columns: [
    { key: 'redis', label: 'memory of Redis', unit: 'B', digits: 0 },
    { key: 'aof', label: 'append-only file', unit: 'B', digits: 0 },
    { key: 'mysql', label: 'tables of MySQL', unit: 'B', digits: 0 },
    { key: 'redo', label: 'redo log', unit: 'B', digits: 0 },
    { key: 'binlog', label: 'binary log', unit: 'B', digits: 0 },
  ],
  charted: 'mysql',
  targets: [],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress, { binaryLog: true });
    const life = createLife(stack);
    const { accepted, stored, ended, paid, pushed } = STAGES;
    return {
      contestants: [
        { name: accepted, role: 'ours', measure: life.accept },
        { name: stored, role: 'ours', measure: life.store },
        { name: ended, role: 'ours', measure: life.end },
        { name: paid, role: 'ours', measure: life.pay },
        { name: pushed, role: 'ours', measure: life.push },
      ],
      notes: () => [
        `${ORDERS.toLocaleString('en')} orders for the first three stages and ${PAID_ORDERS.toLocaleString('en')} for the others. ` +
          'Redis has `used_memory`, MySQL the length of data and indexes after ANALYZE. The rows of pushed events are `push_deliveries`.',
        'An order stays in Redis until a day after its end, and in MySQL for good.',
      ],
      async close() {
        await life.close();
        await stack.close();
      },
    };
  },
};

type Reading = Record<'redis' | 'aof' | 'mysql' | 'redo' | 'binlog' | 'deliveries', number>;

/** One stage follows the other: each measures from the beginning of its orders. */
function createLife(stack: CheckoutStack) {
  const { processes, redis, pool, env } = stack;
  let base: Reading | undefined;
  let saleId = '';
  let opened: { stores: Stores; receiver: Server } | undefined;

  const since = async (orders: number, withDeliveries = false): Promise<Figures> => {
    const now = await read(stack);
    const grown = (key: keyof Reading): number => (now[key] - (base?.[key] ?? NaN)) / orders;
    return {
      redis: grown('redis'),
      aof: grown('aof'),
      mysql: grown('mysql') - (withDeliveries ? 0 : grown('deliveries')),
      redo: grown('redo'),
      binlog: grown('binlog'),
    };
  };

  async function seed(orders: number, windowMs: number | undefined): Promise<void> {
    saleId = await stack.openSale(orders, windowMs);
    await untilFollowed(stack, saleId);
    processes.freeze('worker');
    base = await read(stack);
    await seedOutbox(redis, { saleId, count: orders, users: orders });
  }

  return {
    async accept(): Promise<Figures> {
      await redis.config('SET', 'auto-aof-rewrite-percentage', 0);
      await startWorker(processes, { name: 'worker', env });
      processes.freeze('temporal');
      await seed(ORDERS, WINDOW_MS);
      return since(ORDERS);
    },

    async store(): Promise<Figures> {
      processes.thaw('worker');
      await stack.untilHeld(saleId, ORDERS);
      return since(ORDERS);
    },

    async end(): Promise<Figures> {
      const { deadlines } = saleKeys(wholeSale(saleId));
      await waitUntil({
        what: 'the orders to end in both stores',
        timeoutMs: TIMEOUT_MS,
        check: async () =>
          (await countOrders(stack, saleId, 'awaiting_payment')) <= CLAIMED_MAX &&
          (await redis.zcard(deadlines)) <= CLAIMED_MAX,
      });
      return since(ORDERS);
    },

    async pay(): Promise<Figures> {
      opened = { stores: await openOwnStores(stack), receiver: await receiveEvents() };
      await seed(PAID_ORDERS, undefined);
      await addEndpoint(opened);
      processes.thaw('worker');
      await stack.untilHeld(saleId, PAID_ORDERS);
      await payAll(stack, opened.stores, saleId);
      return since(PAID_ORDERS);
    },

    async push(): Promise<Figures> {
      await waitUntil({
        what: 'all events to be pushed',
        timeoutMs: TIMEOUT_MS,
        check: async () => (await countDelivered(stack)) >= 2 * PAID_ORDERS,
      });
      return since(PAID_ORDERS, true);
    },

    async close(): Promise<void> {
      opened?.receiver.close();
      await opened?.stores.close();
      await modify(pool, 'TRUNCATE TABLE push_deliveries');
    },
  };
}

/** Opens a page, receives the money and marks the order paid, by the functions that API and worker call. */
async function payAll(stack: CheckoutStack, stores: Stores, saleId: string): Promise<void> {
  const rows = await selectRows(
    stack.pool,
    z.object({ order_no: z.string() }),
    'SELECT order_no FROM orders WHERE sale_id = ?',
    [saleId],
  );
  const access = {
    PAYMENT_PROVIDER_URL: 'http://127.0.0.1:9',
    PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
    WEBHOOK_SECRETS: [demoSecrets.webhook],
  };
  const activities = createActivities({ ...stores, provider: openProvider(access, stores.deployment) });
  const signer = createOrderSigner([demoSecrets.orderSigning]);
  const { paymentSessions, reservations } = stores;
  await runConcurrently(rows.length, PAID_AT_ONCE, async (i) => {
    const orderNo = rows[i]?.order_no ?? '';
    const begun = await paymentSessions.begin('sandbox', orderNo, signer.sign);
    assert(begun.kind === 'begun', `the session of ${orderNo} is ${begun.kind}`);
    const { sessionId, expiresAtMs } = begun.session;
    const url = `http://127.0.0.1:3001/pay/${sessionId}`;
    await paymentSessions.recordOpened(sessionId, { providerSessionId: sessionId, url, expiresAtMs });
    const reserved = await reservations.readOrder(orderNo);
    assert(reserved);
    await receivePayment({ stores }, reserved.order);
    const { status } = await activities.markPaid({ orderNo });
    assert.equal(status, 'paid');
  });
}

function openOwnStores({ servers }: CheckoutStack): Promise<Stores> {
  const { redisUrl, mysqlUrl } = servers;
  const config = { ENGINE_BUDGET: 1, MYSQL_STORES_PER_SECOND: DEFAULT_STORES_PER_SECOND };
  const log = pino({ level: 'silent' });
  return openStores({ ...config, REDIS_URL: redisUrl.split(','), MYSQL_URL: mysqlUrl }, log);
}

async function receiveEvents(): Promise<Server> {
  const receiver = createServer((request, response) => {
    request.resume();
    response.writeHead(204).end();
  }).listen(0, '127.0.0.1');
  await once(receiver, 'listening');
  return receiver;
}

async function addEndpoint({ stores, receiver }: { stores: Stores; receiver: Server }): Promise<void> {
  const address = receiver.address();
  assert(address !== null && typeof address === 'object');
  const terms = { types: null, saleId: null, description: 'bench' };
  const url = `http://127.0.0.1:${address.port}/`;
  await stores.endpoints.put('bench', { ...terms, url }, createSecret(), 'bench');
}

const countRow = z.object({ rows: z.coerce.number() });

async function countOrders({ pool }: CheckoutStack, saleId: string, status: string): Promise<number> {
  const sql = 'SELECT COUNT(*) AS `rows` FROM orders WHERE sale_id = ? AND status = ?';
  return (await selectRows(pool, countRow, sql, [saleId, status]))[0]?.rows ?? 0;
}

async function countDelivered({ pool }: CheckoutStack): Promise<number> {
  const sql = "SELECT COUNT(*) AS `rows` FROM push_deliveries WHERE status = 'delivered'";
  return (await selectRows(pool, countRow, sql, []))[0]?.rows ?? 0;
}

async function read(stack: CheckoutStack): Promise<Reading> {
  const { redis, pool } = stack;
  const redisInfo = async (section: string, field: string): Promise<number> =>
    Number(new RegExp(`^${field}:(\\d+)`, 'm').exec(await redis.info(section))?.[1]);
  const tableRow = z.object({ name: z.string(), bytes: z.coerce.number() });
  const sql = `SELECT table_name AS name, data_length + index_length AS bytes
    FROM information_schema.tables WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'`;
  const names = (await selectRows(pool, tableRow, sql, [])).map(({ name }) => name);
  await pool.query(`ANALYZE TABLE ${names.join(', ')}`);
  const tables = await selectRows(pool, tableRow, sql, []);
  const statusRow = z.object({ Value: z.coerce.number() });
  const [redo] = await selectRows(pool, statusRow, "SHOW GLOBAL STATUS LIKE 'Innodb_os_log_written'", []);
  return {
    redis: await redisInfo('memory', 'used_memory'),
    aof: await redisInfo('persistence', 'aof_current_size'),
    mysql: tables.reduce((sum, { bytes }) => sum + bytes, 0),
    deliveries: tables.find(({ name }) => name === 'push_deliveries')?.bytes ?? 0,
    redo: redo?.Value ?? 0,
    binlog: readBinlogBytes(stack),
  };
}
