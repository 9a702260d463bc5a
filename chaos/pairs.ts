/**
 * A Redis or a MariaDB with a replica behind one address. The replica takes over, and the old server lives on
 * as its replica: new connections reach the new server, and open ones stay at the old.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { createConnection, type Connection } from 'mysql2/promise';
import { z } from 'zod';
import { locateServers } from '../stack/install/server-packages.ts';
import { findFreePort } from '../stack/processes/ports.ts';
import type { Processes } from '../stack/processes/processes.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import { mysqlPackage, startMysql } from '../stack/servers/mysql.ts';
import { redisPackage, withRedis } from '../stack/servers/redis.ts';
import { openTcpProxy } from '../stack/servers/tcp-proxy.ts';
import type { Span } from './history.ts';
import { createRedisServer } from './redis-server.ts';
import { asProgram } from './system.ts';

/** A copy of an empty store takes a second. */
const FOLLOW_TIMEOUT_MS = 30_000;

export interface Pair {
  /** Callers connect here, whichever server takes the writes. */
  url: string;
  /**
   * The replica takes over. For `lagMs` before that it gets nothing; with 0 it lacks only what was under way.
   */
  failOver(lagMs: number): Promise<Moved>;
}

export type Closer = () => Promise<void>;

export interface Moved {
  /** From when on new connections reached the new server (Unix ms). */
  movedAtMs: number;
  /** From when on the replica got nothing, until the old server took no more writes. */
  apart: Span;
  /** What the old server had taken by then and the new one has not got. */
  missing: string;
}

export async function startRedisPair(
  processes: Processes,
  progress: (line: string) => void,
  onClose: (close: Closer) => void,
): Promise<Pair> {
  const [found] = await locateServers([redisPackage], progress);
  const old = createRedisServer({
    processes,
    found: asProgram(found, redisPackage),
    port: await findFreePort(),
  });
  await old.start();
  const replica = await old.startReplica();
  const proxy = await openTcpProxy(new URL(old.url).host);
  onClose(() => proxy.close());
  const offsetOf = (url: string) =>
    withRedis(url, async (redis) =>
      Number(/master_repl_offset:(\d+)/.exec(await redis.info('replication'))?.[1]),
    );
  return {
    url: `redis://${proxy.address}`,
    async failOver(lagMs) {
      const startMs = Date.now();
      await replica.promote();
      const gotten = await offsetOf(replica.url);
      await delay(lagMs);
      const written = (await offsetOf(old.url)) - gotten;
      proxy.turn(new URL(replica.url).host);
      const movedAtMs = Date.now();
      const { hostname, port } = new URL(replica.url);
      await withRedis(old.url, (redis) => redis.replicaof(hostname, Number(port)));
      return { movedAtMs, apart: { startMs, endMs: Date.now() }, missing: `${written} bytes` };
    },
  };
}

export async function startMariaPair(
  processes: Processes,
  progress: (line: string) => void,
  onClose: (close: Closer) => void,
): Promise<Pair> {
  const [located] = await locateServers([mysqlPackage], progress);
  const base = {
    processes,
    found: asProgram(located, mysqlPackage),
    fresh: false,
    durable: true,
    binaryLog: true,
  };
  const oldUrl = await startMysql({ ...base, serverId: 1 });
  const newUrl = await startMysql({ ...base, name: 'mysql-replica', serverId: 2 });
  const [old, replica] = [await openRoot(oldUrl, onClose), await openRoot(newUrl, onClose)];
  // Each has written its own accounts.
  for (const server of [old, replica]) await server.query('RESET MASTER');
  await follow(replica, oldUrl);
  const proxy = await openTcpProxy(new URL(oldUrl).host);
  onClose(() => proxy.close());
  const own = new URL(oldUrl);
  own.host = proxy.address;
  return {
    url: own.href,
    async failOver(lagMs) {
      const startMs = Date.now();
      if (lagMs > 0) await replica.query('STOP SLAVE');
      await delay(lagMs);
      await old.query('SET GLOBAL read_only = 1');
      const endMs = Date.now();
      if (lagMs === 0) await awaitCaughtUp(old, replica);
      const gotten = await readPosition(replica, 'gtid_slave_pos');
      const written = await readPosition(old, 'gtid_binlog_pos');
      await replica.query('STOP SLAVE');
      await replica.query('RESET SLAVE ALL');
      await replica.query('SET GLOBAL read_only = 0');
      proxy.turn(new URL(newUrl).host);
      const movedAtMs = Date.now();
      // What it alone has stays there, as on a server that was not copied anew: its rows give way.
      await old.query("SET GLOBAL slave_exec_mode = 'IDEMPOTENT'");
      await old.query('SET GLOBAL gtid_slave_pos = ?', [gotten]);
      await follow(old, newUrl);
      const missing = `${countOf(written) - countOf(gotten)} transactions`;
      return { movedAtMs, apart: { startMs, endMs }, missing };
    },
  };
}

/** The account that MariaDB makes when its folder is initialised. */
async function openRoot(url: string, onClose: (close: Closer) => void): Promise<Connection> {
  const { hostname, port } = new URL(url);
  const connection = await createConnection({ host: hostname, port: Number(port), user: 'root' });
  onClose(async () => connection.destroy());
  return connection;
}

async function follow(server: Connection, url: string): Promise<void> {
  const { hostname, port } = new URL(url);
  await server.query('SET GLOBAL read_only = 1');
  await server.query(
    "CHANGE MASTER TO MASTER_HOST = ?, MASTER_PORT = ?, MASTER_USER = 'root', MASTER_USE_GTID = slave_pos",
    [hostname, Number(port)],
  );
  await server.query('START SLAVE');
  await waitUntil({
    what: 'a replica of MariaDB to follow',
    timeoutMs: FOLLOW_TIMEOUT_MS,
    check: async () => {
      const [rows] = await server.query('SHOW SLAVE STATUS');
      const [status] = slaveStatus.parse(rows);
      if (status?.Last_Error) throw new Error(status.Last_Error);
      return status?.Slave_IO_Running === 'Yes' && status.Slave_SQL_Running === 'Yes';
    },
  });
}

const slaveStatus = z.array(
  z.object({ Slave_IO_Running: z.string(), Slave_SQL_Running: z.string(), Last_Error: z.string() }),
);

async function awaitCaughtUp(old: Connection, replica: Connection): Promise<void> {
  await waitUntil({
    what: 'the replica of MariaDB to have all',
    timeoutMs: FOLLOW_TIMEOUT_MS,
    check: async () =>
      (await readPosition(replica, 'gtid_slave_pos')) === (await readPosition(old, 'gtid_binlog_pos')),
  });
}

async function readPosition(server: Connection, name: 'gtid_slave_pos' | 'gtid_binlog_pos'): Promise<string> {
  const [rows] = await server.query(`SELECT @@GLOBAL.${name} AS position`);
  return z.tuple([z.object({ position: z.string() })]).parse(rows)[0].position;
}

/** Of `domain-server-count`. */
function countOf(position: string): number {
  return Number(position.split('-').at(-1) ?? 0);
}
