/** A private Redis cluster of three masters, for the tests that run on a cluster. */

import { mkdirSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { locateServers } from '../install/server-packages.ts';
import { findFreePort } from '../processes/ports.ts';
import { createProcesses } from '../processes/processes.ts';
import { waitUntil } from '../processes/wait.ts';
import { livesIn, redisArgs, redisPackage, withRedis } from './redis.ts';

const SLOTS = 16_384;
const MASTERS = 3;

/**
 * A master that does not answer for so long is replaced by its replica. On a busy machine a node that is well
 * was seen to answer after more than two seconds.
 */
const NODE_TIMEOUT_MS = 5_000;

/** Nodes gossip once a second and need some rounds until all agree. */
const AGREE_TIMEOUT_MS = 30_000;

type Node = { url: string; port: number; busPort: number };

export type RedisCluster = {
  /** Comma-separated. */
  redisUrl: string;
  /** SIGSTOP and SIGCONT to the node at this port. The others go on. */
  freeze(port: number): void;
  thaw(port: number): void;
  /** SIGKILL to the master at this port. Where it has a replica, that takes over. */
  kill(port: number): Promise<void>;
  /** The master at this port and its replica change places. Nothing is lost. */
  handOver(port: number): Promise<void>;
  stop(): Promise<void>;
};

/**
 * A real cluster on loopback.
 * @param options.replicas whether each master has a replica
 */
export async function startRedisCluster(options: {
  dataDir: string;
  replicas?: boolean;
}): Promise<RedisCluster> {
  const [found] = await locateServers([redisPackage], console.log);
  if (found?.kind !== 'binary') throw new Error('a Redis cluster needs redis-server on PATH');
  const crashes: Error[] = [];
  const processes = createProcesses({
    dataDir: options.dataDir,
    onCrash: (crash) => crashes.push(crash),
  });
  try {
    const nodes: Node[] = [];
    for (let index = 0; index < MASTERS * (options.replicas ? 2 : 1); index++) {
      const folder = join(options.dataDir, `node-${index}`);
      mkdirSync(folder, { recursive: true });
      const dir = realpathSync(folder);
      const [port, busPort] = [await findFreePort(), await findFreePort()];
      const node = { url: `redis://127.0.0.1:${port}`, port, busPort };
      await processes.start({
        name: `redis-node-${index}`,
        command: found.path,
        args: [
          ...redisArgs(dir, port),
          '--cluster-enabled',
          'yes',
          '--cluster-port',
          String(busPort),
          '--cluster-require-full-coverage',
          'no',
          '--cluster-node-timeout',
          String(NODE_TIMEOUT_MS),
        ],
        marker: dir,
        isReady: () => livesIn(node.url, dir),
        readyTimeoutMs: AGREE_TIMEOUT_MS,
        stopTimeoutMs: AGREE_TIMEOUT_MS,
      });
      nodes.push(node);
    }
    const [masters, replicas] = [nodes.slice(0, MASTERS), nodes.slice(MASTERS)];
    await formCluster(masters);
    await addReplicas(masters, replicas);
    const nameOf = (port: number) => `redis-node-${nodes.findIndex((node) => node.port === port)}`;
    return {
      redisUrl: masters.map((node) => node.url).join(','),
      freeze: (port) => processes.freeze(nameOf(port)),
      thaw: (port) => processes.thaw(nameOf(port)),
      kill: (port) => processes.kill(nameOf(port)),
      async handOver(port) {
        const index = nodes.findIndex((node) => node.port === port);
        const [master, replica] = [nodes[index], nodes[(index + MASTERS) % nodes.length]];
        if (!master || !replica) throw new Error(`no master and replica at ${port}`);
        await withRedis(replica.url, (redis) => redis.call('CLUSTER', 'FAILOVER'));
        await waitUntil({
          what: `the master at ${master.url} to become a replica`,
          timeoutMs: AGREE_TIMEOUT_MS,
          check: () =>
            withRedis(master.url, async (redis) => /^role:slave/m.test(await redis.info('replication'))),
        });
      },
      stop: () => processes.stopAll(),
    };
  } catch (error) {
    await processes.stopAll();
    throw crashes[0] ?? error;
  }
}

async function formCluster(nodes: readonly Node[]): Promise<void> {
  for (const [index, node] of nodes.entries()) {
    const first = Math.floor((index * SLOTS) / nodes.length);
    const last = Math.floor(((index + 1) * SLOTS) / nodes.length) - 1;
    await withRedis(node.url, async (redis) => {
      // Distinct epochs from the start spare the nodes a round of settling a conflict.
      await redis.call('CLUSTER', 'SET-CONFIG-EPOCH', String(index + 1));
      await redis.call('CLUSTER', 'ADDSLOTSRANGE', String(first), String(last));
      for (const other of nodes.slice(0, index)) {
        await redis.call('CLUSTER', 'MEET', '127.0.0.1', String(other.port), String(other.busPort));
      }
    });
  }
  await waitForAgreement(nodes, nodes.length);
}

/** Each replica follows the master of its number. */
async function addReplicas(masters: readonly Node[], replicas: readonly Node[]): Promise<void> {
  const [first] = masters;
  if (!first || replicas.length === 0) return;
  for (const node of replicas) {
    await withRedis(node.url, (redis) =>
      redis.call('CLUSTER', 'MEET', '127.0.0.1', String(first.port), String(first.busPort)),
    );
  }
  const all = [...masters, ...replicas];
  await waitForAgreement(all, all.length);
  for (const [index, node] of replicas.entries()) {
    const master = masters[index] ?? first;
    const id = await withRedis(master.url, async (redis) => String(await redis.call('CLUSTER', 'MYID')));
    await withRedis(node.url, (redis) => redis.call('CLUSTER', 'REPLICATE', id));
    await waitUntil({
      what: `the replica at ${node.url} to follow its master`,
      timeoutMs: AGREE_TIMEOUT_MS,
      check: () =>
        withRedis(node.url, async (redis) => /master_link_status:up/.test(await redis.info('replication'))),
    });
  }
}

async function waitForAgreement(nodes: readonly Node[], known: number): Promise<void> {
  for (const node of nodes) {
    await waitUntil({
      what: `the Redis cluster to agree, seen from ${node.url}`,
      timeoutMs: AGREE_TIMEOUT_MS,
      check: () =>
        withRedis(node.url, async (redis) => {
          const info = String(await redis.call('CLUSTER', 'INFO'));
          // Without full coverage, the state is ok before the slots of the others are known.
          const agreed = ['cluster_state:ok', `cluster_slots_ok:${SLOTS}`, `cluster_known_nodes:${known}`];
          return agreed.every((line) => info.includes(line));
        }),
    });
  }
}
