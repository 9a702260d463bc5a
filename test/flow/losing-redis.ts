/** A Redis on files of its own whose data a test may lose in each way that operations know. */

import { mkdirSync, realpathSync } from 'node:fs';
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { locateServers } from '../../stack/install/server-packages.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { livesIn, redisArgs, redisPackage, withRedis } from '../../stack/servers/redis.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';

const READY_TIMEOUT_MS = 30_000;

export type LosingRedis = Awaited<ReturnType<typeof openLosingRedis>>;

export async function openLosingRedis() {
  const [found] = await locateServers([redisPackage], () => {});
  if (found?.kind !== 'binary') throw new Error('this test needs redis-server on PATH');
  const { command } = { command: found.path };
  const { processes, close } = await openTestProcesses(() => {});

  /** @returns its port, and the folder with its files */
  async function start(name: string, port: number, more: string[] = []): Promise<string> {
    const folder = join(processes.dataDir, name);
    mkdirSync(folder, { recursive: true });
    const dir = realpathSync(folder);
    await processes.start({
      name,
      command,
      args: [...redisArgs(dir, port), ...more],
      marker: dir,
      isReady: () => livesIn(`redis://127.0.0.1:${port}`, dir),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: READY_TIMEOUT_MS,
    });
    return dir;
  }

  const port = await findFreePort();
  const dir = await start('redis', port);
  const proxy = await openTcpProxy(`127.0.0.1:${port}`);
  return {
    url: `redis://${proxy.address}`,

    /** Everything is gone at once, and the server goes on. */
    flush: () => withRedis(`redis://127.0.0.1:${port}`, (redis) => redis.flushall()),

    /** A plain restart with all its data. */
    async restart(): Promise<void> {
      await processes.stop('redis');
      await start('redis', port);
    },

    /** Copies the files as they are now. @returns restores them, with a restart */
    async backUp(): Promise<() => Promise<void>> {
      const copy = `${dir}-copy`;
      await cp(dir, copy, { recursive: true });
      return async () => {
        await processes.stop('redis');
        await rm(dir, { recursive: true });
        await cp(copy, dir, { recursive: true });
        await start('redis', port);
      };
    },

    /** Starts a replica and stops its following. @returns kills the master; the replica takes its place */
    async leaveReplicaBehind(): Promise<() => Promise<void>> {
      const replicaPort = await findFreePort();
      await start('replica', replicaPort, ['--replicaof', `127.0.0.1 ${port}`]);
      const url = `redis://127.0.0.1:${replicaPort}`;
      await waitFor('the replica to have everything', () =>
        withRedis(url, async (redis) => /master_link_status:up/.test(await redis.info('replication'))),
      );
      await withRedis(url, (redis) => redis.replicaof('NO', 'ONE'));
      return async () => {
        await processes.kill('redis');
        proxy.redirect(`127.0.0.1:${replicaPort}`);
      };
    },

    async close(): Promise<void> {
      await proxy.close();
      await close();
    },
  };
}
