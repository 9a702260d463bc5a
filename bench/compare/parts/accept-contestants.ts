/** The contestants of the part `accept`: how each is started, loaded, and checked afterwards. */

import assert from 'node:assert/strict';
import { saleKeys } from '../../../src/redis/keys.ts';
import { startApi } from '../../../stack/app.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import { assertCount, figuresOf, type Harness, type Target } from '../../http/harness.ts';
import type { Peer } from '../../peers/peer.ts';
import { isPeerName, PEERS, type PeerName } from '../../peers/peers.ts';
import type { BenchServers } from '../../servers.ts';
import type { Contestant } from '../part.ts';

export const ALONE = 'Holdfast, front alone';
export const LIMIT = 'bare Koa + body + one EVALSHA';

const TITLES: Readonly<Record<PeerName, string>> = {
  'lua-list': 'A: Lua, LPUSH',
  rabbitmq: 'B: Lua, RabbitMQ',
  bullmq: 'Lua, BullMQ',
  'stored-first': 'D: Lua, waits until stored',
  'shopify-rows': 'Shopify: MySQL rows',
};
export const NAMES = Object.keys(PEERS).filter(isPeerName);
const bare = (name: PeerName): string => `${TITLES[name]}; bare Koa`;
const behindOurFront = (name: PeerName): string => `${TITLES[name]}; our front`;

/** More than any load takes. */
const UNITS = 10_000_000;
/** A row each, which takes its time to insert; five times what a load takes. */
const UNIT_ROWS = 40_000;
const SETTLED_TIMEOUT_MS = 10_000;

export interface Context {
  harness: Harness;
  rabbitmqUrl: string;
  /** Of each load, for the notes. */
  answers: number[];
  /** To be closed. */
  peers: Peer[];
}

export async function prepareFrontAlone({ harness, answers }: Context): Promise<Contestant> {
  const { stack } = harness;
  await startApi(stack.processes, { name: 'api', env: stack.appEnv });
  const target = apiOf(stack);
  await harness.warmUp(target, await stack.openSale(UNITS));
  const nextPool = countFrom(1);
  return {
    name: ALONE,
    role: 'ours',
    async measure() {
      await stack.clearRedis();
      const saleId = await stack.openSale(UNITS);
      const report = await harness.buy(target, { saleId, pool: nextPool() });
      answers.push(report.answers);
      assert.equal(report.refusals, 0, 'every order is accepted');
      const { stock, outbox } = saleKeys({ saleId, shard: 0 });
      const held = Number(await stack.redis.hget(stock, 'unit:held'));
      assertCount('held in Redis', held, report.answers);
      const waiting = await stack.redis.xlen(outbox);
      assert.equal(waiting, held, 'each held unit has its order in the outbox');
      return figuresOf(report, report.answers);
    },
  };
}

export async function prepareLimit({ harness, answers }: Context): Promise<Contestant> {
  const { stack } = harness;
  const stockKey = 'peer:limit:stock';
  const env = { ...stack.appEnv, BARE: 'limit', STOCK_KEY: stockKey };
  const url = await stack.startServer('limit', 'peers/bare-server.js', env);
  const target = { url, pid: stack.processes.pid('limit') };
  await stack.redis.set(stockKey, UNITS);
  await harness.warmUp(target, 'limit');
  const nextPool = countFrom(1);
  return {
    name: LIMIT,
    role: 'limit',
    async measure() {
      await stack.clearRedis();
      await stack.redis.set(stockKey, UNITS);
      const report = await harness.buy(target, { saleId: 'limit', pool: nextPool() });
      answers.push(report.answers);
      assert.equal(report.refusals, 0, 'every request is accepted');
      assertCount('taken in Redis', UNITS - Number(await stack.redis.get(stockKey)), report.answers);
      return figuresOf(report, report.answers);
    },
  };
}

export async function preparePeer(
  { harness, rabbitmqUrl, answers, peers }: Context,
  { name, isBehindOurFront }: { name: PeerName; isBehindOurFront: boolean },
): Promise<Contestant> {
  const { stack } = harness;
  const { redisUrl, mysqlUrl } = stack.servers;
  const process = `${name}-${isBehindOurFront ? 'front' : 'bare'}`;
  const env = { ...stack.appEnv, PEER: name, BARE: name, RABBITMQ_URL: rabbitmqUrl };
  const script = isBehindOurFront ? 'peers/front-server.js' : 'peers/bare-server.js';
  const url = await stack.startServer(process, script, env);
  const target = { url, pid: stack.processes.pid(process) };
  const peer = await PEERS[name]({ servers: { redisUrl, mysqlUrl, rabbitmqUrl }, isIdempotent: false });
  peers.push(peer);
  let sales = 0;
  const clear = async (): Promise<void> => {
    await stack.clearRedis();
    await peer.clear();
  };
  const openSale = async (): Promise<string> => {
    await clear();
    sales += 1;
    const saleId = `${process}-${sales}`;
    await peer.openSale(saleId, name === 'shopify-rows' ? UNIT_ROWS : UNITS);
    return saleId;
  };
  await harness.warmUp(target, await openSale());
  const nextPool = countFrom(1);
  return {
    name: isBehindOurFront ? behindOurFront(name) : bare(name),
    role: 'peer',
    async measure() {
      const saleId = await openSale();
      const report = await harness.buy(target, { saleId, pool: nextPool() });
      answers.push(report.answers);
      assert.equal(report.refusals, 0, 'every order is accepted');
      await assertHandedOver(peer, saleId, report.answers);
      await clear();
      return figuresOf(report, report.answers);
    },
  };
}

async function assertHandedOver(peer: Peer, saleId: string, accepted: number): Promise<void> {
  let counted = { taken: 0, handedOver: -1 };
  await waitUntil({
    what: 'the last orders to be handed over',
    timeoutMs: SETTLED_TIMEOUT_MS,
    check: async () => {
      counted = await peer.count(saleId);
      return counted.taken === counted.handedOver;
    },
  });
  assertCount('handed over', counted.handedOver, accepted);
}

function apiOf({ processes, appEnv }: BenchServers): Target {
  return { url: `http://127.0.0.1:${appEnv['API_PORT']}`, pid: processes.pid('api') };
}

function countFrom(first: number): () => number {
  let next = first;
  return () => next++;
}
