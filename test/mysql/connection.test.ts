/** The MySQL pool: neither a server nor a client that falls silent makes others wait without a bound. */

import { beforeAll, inject, expect, test, type TestContext } from 'vitest';
import { z } from 'zod';
import {
  BOUNDS,
  createMysqlPool,
  takeConnection,
  inShortTransaction,
  inTransaction,
  isTakingWrites,
  modify,
  selectRows,
  type Bounds,
  type Pool,
  isUnavailable,
} from '../../src/mysql/connection.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { buildSale } from '../support/factories.ts';
import { selectOne } from '../support/rows.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;

beforeAll(async () => {
  stores = await openTestStores();
});

/** While the server answers, however busy the machine is. */
const PATIENT = { ...BOUNDS, connectMs: 60_000, waitMs: 60_000, workMs: 60_000 };
/** From when the server falls silent. */
const SHORT = { ...PATIENT, waitMs: 500, workMs: 1_500 };

/** A pool whose wire to MySQL a test can freeze: nothing comes through, and neither side is notified. */
async function openFreezable(
  { onTestFinished }: TestContext,
  bounds: Partial<Bounds> = {},
  mysqlUrl = inject('mysqlUrl'),
) {
  const url = new URL(mysqlUrl);
  const wire = await openTcpProxy(url.host);
  url.host = wire.address;
  const pool = createMysqlPool(url.href, CONNECTIONS, { ...PATIENT, ...bounds });
  onTestFinished(() => wire.close());
  return { pool, wire };
}

const CONNECTIONS = 20;

const isRefusedAsUnavailable = (work: Promise<unknown>): Promise<boolean> =>
  work.then(() => false, isUnavailable);

async function isMariaDb(): Promise<boolean> {
  const { version } = await selectOne(stores.pool, 'SELECT VERSION() AS version');
  return String(version).includes('MariaDB');
}

/** Uses all connections at once. Those that were being made to a silent server are given up first. */
async function expectWhole(pool: Pool): Promise<void> {
  await waitFor('all connections', async () => {
    const uses = Array.from({ length: CONNECTIONS }, () =>
      isRefusedAsUnavailable(modify(pool, 'DO SLEEP(0.01)')),
    );
    return (await Promise.all(uses)).every((isRefused) => !isRefused);
  });
}

test('a client commits or gives up before the server ends its transaction, and that before its connection', () => {
  const { waitMs, workMs, idleTransactionSeconds, idleSeconds } = BOUNDS;
  expect(waitMs).toBeLessThan(workMs);
  expect(workMs).toBeLessThan(idleTransactionSeconds * 1_000);
  expect(idleTransactionSeconds).toBeLessThan(idleSeconds);
});

// Side by side, because each waits for a bound; the longest first.
test.concurrent.for([
  // It has no limit of its own for transactions.
  {
    server: 'MySQL',
    setting: 'SET SESSION wait_timeout = @@wait_timeout /*M! , idle_transaction_timeout = 0 */',
  },
  { server: 'MariaDB', setting: 'SET SESSION wait_timeout = 3600' },
])(
  'a row that a vanished client has locked is free again while others still try: as on $server',
  async ({ server, setting }, context) => {
    context.skip(server === 'MariaDB' && !(await isMariaDb()), 'MySQL ends no idle transaction');
    const { saleId } = await stores.openSale(buildSale());
    const idle = { idleTransactionSeconds: 1, idleSeconds: 2 };
    const { pool, wire } = await openFreezable(context, idle, stores.config.MYSQL_URL);
    const change = "UPDATE skus SET held = held + 1 WHERE sale_id = ? AND sku = 'lamp'";
    let isVanished: Promise<boolean> | undefined;
    await new Promise<void>((locked) => {
      const vanished = inTransaction(pool, async (connection) => {
        await modify(connection, setting);
        await modify(connection, change, [saleId]);
        wire.silence();
        locked();
        await modify(connection, 'DO 1');
      });
      isVanished = isRefusedAsUnavailable(vanished);
    });

    await inTransaction(stores.pool, (connection) => modify(connection, change, [saleId]));

    expect(await stores.sales.readStock(saleId)).toMatchObject([{ sku: 'lamp', held: 1 }, {}]);
    wire.cut();
    expect(await isVanished).toBe(true);
  },
);

test.concurrent('a transaction whose server falls silent fails in bounded time, even when the connection breaks later', async (context) => {
  const { pool, wire } = await openFreezable(context);
  await modify(pool, 'DO 0');
  pool.bounds = SHORT;
  const failed = inTransaction(pool, async (connection) => {
    await modify(connection, 'DO 1');
    wire.freeze();
    await modify(connection, 'DO 2');
  });
  expect(await isRefusedAsUnavailable(failed)).toBe(true);
  pool.bounds = PATIENT;
  // The pool goes on with another connection.
  await expect(modify(pool, 'DO 3')).resolves.toBe(0);
});

test.concurrent('a single statement whose server falls silent fails in bounded time, too', async (context) => {
  const { pool, wire } = await openFreezable(context);
  await modify(pool, 'DO 1');
  wire.freeze();
  pool.bounds = SHORT;
  expect(await isRefusedAsUnavailable(modify(pool, 'DO 2'))).toBe(true);
  pool.bounds = PATIENT;
  await expect(modify(pool, 'DO 3')).resolves.toBe(0);
});

test.concurrent('a statement that gets no connection in time is refused, before those that hold one fail', async (context) => {
  const { pool, wire } = await openFreezable(context, { connectMs: 2_000 });
  await expectWhole(pool);
  wire.silence();
  pool.bounds = SHORT;
  const ended: string[] = [];
  const run = async (name: string) => {
    expect(await isRefusedAsUnavailable(modify(pool, 'DO 1'))).toBe(true);
    ended.push(name);
  };
  const holding = Array.from({ length: CONNECTIONS }, () => run('holding'));
  const waiting = Array.from({ length: 100 }, () => run('waiting'));
  await Promise.all(waiting);
  expect(ended).not.toContain('holding');
  await Promise.all(holding);

  wire.mend();
  pool.bounds = PATIENT;
  await expectWhole(pool);
});

test.concurrent('more than may wait for a connection are refused as when MySQL is away', async (context) => {
  const { pool, wire } = await openFreezable(context);
  await expectWhole(pool);
  wire.silence();
  pool.bounds = SHORT;
  const refused = Array.from({ length: 600 }, () => isRefusedAsUnavailable(modify(pool, 'DO 1')));
  expect(new Set(await Promise.all(refused))).toEqual(new Set([true]));
});

test.concurrent('probes of a server that has fallen silent take no connection with them', async (context) => {
  const { pool, wire } = await openFreezable(context, { connectMs: 2_000 });
  await expectWhole(pool);
  wire.silence();
  for (let round = 0; round < 4; round += 1) {
    const probes = Array.from({ length: 100 }, () => isTakingWrites(pool, 200));
    expect(new Set(await Promise.all(probes))).toEqual(new Set([false]));
  }

  wire.mend();
  await expectWhole(pool);
  expect(await isTakingWrites(pool, 60_000)).toBe(true);
});

test.each([
  ['repeated once after a deadlock', 1213, 2],
  ['not repeated after a lock that others held for too long', 1205, 1],
  ['not repeated after any other error', 1062, 1],
])('a short transaction is %s', async (_, errno, tries) => {
  let tried = 0;
  const failing = inShortTransaction(stores.pool, 1, () => {
    tried += 1;
    return Promise.reject(Object.assign(new Error('refused'), { errno }));
  });
  await expect(failing).rejects.toThrow('refused');
  expect(tried).toBe(tries);
});

test('the pool gives an idle connection up before the server does', async () => {
  const [row] = await selectRows(
    stores.pool,
    z.object({ seconds: z.int() }),
    'SELECT @@wait_timeout AS seconds',
  );
  const { idleTimeout, maxIdle, connectionLimit } = z
    .object({ idleTimeout: z.int(), maxIdle: z.int(), connectionLimit: z.int() })
    .parse(Reflect.get(stores.pool.pool, 'config'));
  expect(maxIdle).toBeLessThan(connectionLimit);
  expect(idleTimeout).toBeLessThan((row?.seconds ?? 0) * 1_000);
});

test.each([1036, 1047, 1290, 1836, 3100])(
  'a refusal %s, of a server that takes no writes, counts as unavailable',
  (errno) => {
    expect(isUnavailable(Object.assign(new Error('refused'), { errno, code: 'ER' }))).toBe(true);
  },
);

test('once a server refuses a write, all work goes to new connections, reads too', async (context) => {
  const { pool } = stores;
  // A connection whose id is listed is as one to a server that has become a replica.
  await modify(pool, 'CREATE TABLE demoted (id BIGINT UNSIGNED PRIMARY KEY)');
  await modify(pool, 'CREATE TABLE written (n INT)');
  await pool.query(
    `CREATE TRIGGER refuse BEFORE INSERT ON written FOR EACH ROW
       IF EXISTS (SELECT 1 FROM demoted WHERE id = CONNECTION_ID())
       THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1290, MESSAGE_TEXT = 'read-only'; END IF`,
  );
  const { pool: old } = await openFreezable(context, {}, stores.config.MYSQL_URL);
  context.onTestFinished(() => old.end());
  const idOf = async () => (await selectOne(old, 'SELECT CONNECTION_ID() AS id'))['id'];
  const taken = await Promise.all(Array.from({ length: CONNECTIONS }, () => takeConnection(old)));
  const ids: unknown[] = taken.map(({ threadId }) => threadId);
  for (const connection of taken) connection.release();
  for (const id of ids) await modify(pool, 'INSERT INTO demoted VALUES (?)', [id]);

  await expect(modify(old, 'INSERT INTO written VALUES (1)')).rejects.toThrow('read-only');

  expect(await modify(old, 'INSERT INTO written VALUES (2)')).toBe(1);
  const uses = await Promise.all(Array.from({ length: 2 * CONNECTIONS }, idOf));
  expect(uses.filter((id) => ids.includes(id))).toEqual([]);
});
