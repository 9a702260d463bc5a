/** The servers of a stack: side by side, durable, and back with their data after they were killed. */

import assert from 'node:assert/strict';
import { Client, Connection } from '@temporalio/client';
import { createConnection } from 'mysql2/promise';
import { expect, test } from 'vitest';
import { canConnect } from '../../stack/processes/ports.ts';
import { restartOnCrash } from '../../stack/processes/supervisor.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import { startRedisCluster } from '../../stack/servers/redis-cluster.ts';
import { withRedis } from '../../stack/servers/redis.ts';
import { launchServers, openDataDir, startServers, type Servers } from '../../stack/servers/servers.ts';
import { withDataDir } from './data-dir.ts';

type Stack = Awaited<ReturnType<typeof startServers>>;

async function startStack(dataDir: string, crashes: Error[]): Promise<Stack> {
  return startServers({
    dataDir,
    fresh: true,
    durable: false,
    progress: () => {},
    onCrash: (crash) => crashes.push(crash),
  });
}

/** @throws when one of them does not start, after stopping the others */
async function startStacks(dataDirs: readonly string[], crashes: Error[]): Promise<Stack[]> {
  const starting = dataDirs.map((dataDir) => startStack(dataDir, crashes));
  const started = await Promise.allSettled(starting);
  if (started.some(({ status }) => status === 'rejected'))
    await Promise.all(started.map(async (each) => each.status === 'fulfilled' && each.value.stop()));
  return Promise.all(starting);
}

function targets(stack: Stack): [string, number][] {
  const urls = [stack.redisUrl, stack.mysqlUrl, `temporal://${stack.temporalAddress}`];
  return urls.map((url) => [new URL(url).hostname, Number(new URL(url).port)]);
}

async function answering(stack: Stack): Promise<boolean[]> {
  return Promise.all(targets(stack).map((target) => canConnect(...target)));
}

test('two stacks run side by side, and stopping one leaves the other alone', async () => {
  await withDataDir((one) =>
    withDataDir(async (two) => {
      const crashes: Error[] = [];
      const stacks = await startStacks([one, two], crashes);
      try {
        const [first, second] = stacks;
        assert(first && second);
        expect(new Set([...targets(first), ...targets(second)].map(([, port]) => port)).size).toBe(6);
        await first.stop();
        expect(await answering(first)).toEqual([false, false, false]);
        expect(await answering(second)).toEqual([true, true, true]);
        await second.stop();
        expect(await answering(second)).toEqual([false, false, false]);
      } finally {
        await Promise.all(stacks.map((stack) => stack.stop()));
      }
      expect(crashes).toEqual([]);
    }),
  );
});

test('the servers are set up so that nothing accepted is lost', async () => {
  await withDataDir(async (dataDir) => {
    const stack = await startServers({
      dataDir,
      fresh: true,
      progress: () => {},
      onCrash: () => {},
    });
    try {
      const named = ['appendonly', 'appendfsync', 'maxmemory-policy', 'save'];
      const settings = await withRedis(stack.redisUrl, (redis) =>
        Promise.all(named.map((name) => redis.call('CONFIG', 'GET', name))),
      );
      expect(settings).toEqual([
        ['appendonly', 'yes'],
        ['appendfsync', 'always'],
        ['maxmemory-policy', 'noeviction'],
        ['save', ''],
      ]);
      const connection = await createConnection(stack.mysqlUrl);
      const [rows] = await connection.query(
        'SELECT @@innodb_flush_log_at_trx_commit AS flush, @@character_set_database AS charset, DATABASE() AS name',
      );
      await connection.end();
      expect(rows).toEqual([{ flush: 1, charset: 'utf8mb4', name: 'holdfast' }]);
    } finally {
      await stack.stop();
    }
  });
});

test('a server that dies is reported by its name', async () => {
  await withDataDir(async (dataDir) => {
    const crashes: Error[] = [];
    const stack = await startStack(dataDir, crashes);
    try {
      // Redis ends without an answer, so the call itself fails.
      await withRedis(stack.redisUrl, (redis) => redis.shutdown('NOSAVE')).catch(() => {});
      await waitUntil({ what: 'the crash report', timeoutMs: 60_000, check: () => crashes.length > 0 });
      expect(crashes[0]?.message).toMatch(/^redis stopped unexpectedly/);
    } finally {
      await stack.stop();
    }
  });
});

async function withMysql<T>(
  url: string,
  use: (connection: Awaited<ReturnType<typeof createConnection>>) => Promise<T>,
): Promise<T> {
  const connection = await createConnection(url);
  try {
    return await use(connection);
  } finally {
    await connection.end();
  }
}

async function withTemporal<T>(address: string, use: (client: Client) => Promise<T>): Promise<T> {
  const connection = await Connection.connect({ address });
  try {
    return await use(new Client({ connection }));
  } finally {
    await connection.close();
  }
}

async function leaveTraces(servers: Servers): Promise<void> {
  await withRedis(servers.redisUrl, (redis) => redis.set('trace', 'left'));
  await withMysql(servers.mysqlUrl, async (connection) => {
    await connection.query('CREATE TABLE traces (trace VARCHAR(10))');
    await connection.query("INSERT INTO traces VALUES ('left')");
  });
  await withTemporal(servers.temporalAddress, (client) =>
    // No worker takes it: it stays as it was started.
    client.workflow.start('left', { taskQueue: 'nowhere', workflowId: 'trace' }),
  );
}

async function readTraces(servers: Servers): Promise<unknown[]> {
  return Promise.all([
    withRedis(servers.redisUrl, (redis) => redis.get('trace')),
    withMysql(
      servers.mysqlUrl,
      async (connection) => (await connection.query('SELECT trace FROM traces'))[0],
    ),
    withTemporal(
      servers.temporalAddress,
      async (client) => (await client.workflow.getHandle('trace').describe()).type,
    ),
  ]);
}

test('servers that are killed come back at the same addresses with the same data', async () => {
  await withDataDir(async (dataDir) => {
    const said: string[] = [];
    const stayedDown: Error[] = [];
    const onCrash = restartOnCrash({
      say: (line) => said.push(line),
      onStaysDown: (reason) => stayedDown.push(reason),
    });
    const processes = await openDataDir({ dataDir, fresh: true, progress: () => {}, onCrash });
    try {
      const servers = await launchServers(processes, { fresh: true, progress: () => {} });
      await leaveTraces(servers);
      const names = processes.names();
      expect(names.toSorted()).toEqual(['mysql', 'redis', 'temporal']);
      for (const name of names) process.kill(processes.pid(name), 'SIGKILL');
      await waitUntil({
        what: 'three restarts',
        timeoutMs: 60_000,
        check: () => said.length + stayedDown.length === names.length,
      });
      expect(await readTraces(servers)).toEqual(['left', [{ trace: 'left' }], 'left']);
      expect(stayedDown).toEqual([]);
    } finally {
      await processes.stopAll();
    }
  });
});

test('a Redis cluster of three masters answers on every slot', async () => {
  await withDataDir(async (dataDir) => {
    const cluster = await startRedisCluster({ dataDir });
    try {
      const urls = cluster.redisUrl.split(',');
      expect(urls).toHaveLength(3);
      for (const url of urls) {
        const info = await withRedis(url, (redis) => redis.call('CLUSTER', 'INFO'));
        expect(String(info)).toContain('cluster_slots_assigned:16384');
      }
    } finally {
      await cluster.stop();
    }
  });
});
