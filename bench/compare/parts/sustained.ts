/**
 * The part `sustained`: for a minute, each design accepts orders and stores them on the same two cores. What
 * a front accepts and its consumer has not stored by the end waits, and its shopper cannot pay.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import { startApi, startWorker } from '../../../stack/app.ts';
import { locateWrk } from '../../../stack/install/wrk.ts';
import { startRabbitmq } from '../../../stack/servers/rabbitmq.ts';
import { createHarness, figuresOf, LATENCY_COLUMNS, type HttpReport } from '../../http/harness.ts';
import { BULLMQ_QUEUE } from '../../peers/bullmq.ts';
import { LUA_LIST_KEY } from '../../peers/lua-list.ts';
import { PEERS, type PeerName } from '../../peers/peers.ts';
import { RABBITMQ_QUEUE } from '../../peers/rabbitmq.ts';
import { openBenchServers, type BenchServers } from '../../servers.ts';
import type { Contestant, Figures, OpenPart, Part } from '../part.ts';
import { startConsumer, type ConsumerName } from './payable/consumer-process.ts';

const SECONDS = 60;
/** More than any design accepts in a minute. */
const UNITS = 10_000_000;
/** Shopify's design has a row for each unit, which takes its time to insert. */
const UNIT_ROWS = 200_000;
const OURS = 'Holdfast';

interface Design {
  title: string;
  name: PeerName;
  units: number;
  /** None: the design stores before it answers. */
  consumer?: { script: ConsumerName; queue: string };
}

const DESIGNS: readonly Design[] = [
  {
    title: 'A: Lua, Redis list, 5 processors',
    name: 'lua-list',
    units: UNITS,
    consumer: { script: 'lua-list', queue: LUA_LIST_KEY },
  },
  {
    title: 'B: Lua, RabbitMQ, 5 workers',
    name: 'rabbitmq',
    units: UNITS,
    consumer: { script: 'rabbitmq', queue: RABBITMQ_QUEUE },
  },
  {
    title: 'Lua, BullMQ, concurrency 50',
    name: 'bullmq',
    units: UNITS,
    consumer: { script: 'bullmq', queue: BULLMQ_QUEUE },
  },
  { title: 'D: Lua, waits until stored', name: 'stored-first', units: UNITS },
  { title: 'Shopify: MySQL rows', name: 'shopify-rows', units: UNIT_ROWS },
];

export const sustainedPart: Part = {
  name: 'sustained',
  title: 'Accepted and payable, for a minute',
  about:
    `64 connections buy for ${SECONDS} seconds as fast as they are answered, while the design's consumer stores ` +
    'what is accepted, all on the same cores. Counted are the orders that are stored when the minute ends.',
  columns: [
    { key: 'payable', label: 'accepted and payable', unit: '/s', digits: 0 },
    { key: 'rate', label: 'accepted', unit: '/s', digits: 0 },
    { key: 'waiting', label: 'waiting at the end', unit: 'orders', digits: 0 },
    ...LATENCY_COLUMNS,
  ],
  charted: 'payable',
  roundsMax: 1,
  targets: [
    {
      text: 'accepted and payable, of the best peer',
      figure: 'payable',
      of: OURS,
      against: DESIGNS.map(({ title }) => title),
      atLeast: 1,
    },
  ],
  async open(progress): Promise<OpenPart> {
    const wrk = await locateWrk(progress);
    const contestants: Contestant[] = [
      { name: OURS, role: 'ours', measure: () => onOwnServers((stack) => measureOurs(stack, wrk)) },
      ...DESIGNS.map((design): Contestant => ({
        name: design.title,
        role: 'peer',
        measure: () => onOwnServers((stack) => measureDesign(stack, wrk, design)),
      })),
    ];
    return { contestants, notes: () => NOTES, close: async () => {} };
  },
};

const NOTES = [
  'Every design has the same front: HTTP, token check, validation, lanes and answers are those of Holdfast. Each measurement has servers of its own, so nothing waits from the one before.',
  "Holdfast also has Temporal and its workflows at work on the orders; the peers have nothing beside their consumer. An order counts once its rows are committed; Shopify's design stores a reservation alone.",
];

async function onOwnServers(measure: (stack: BenchServers) => Promise<Figures>): Promise<Figures> {
  const stack = await openBenchServers(() => {});
  try {
    return await measure(stack);
  } finally {
    await stack.close();
  }
}

async function measureOurs(stack: BenchServers, wrk: string): Promise<Figures> {
  const { processes, appEnv } = stack;
  await Promise.all([
    startApi(processes, { name: 'api', env: appEnv }),
    startWorker(processes, { name: 'worker', env: appEnv }),
  ]);
  const harness = createHarness(stack, wrk);
  const target = { url: `http://127.0.0.1:${appEnv['API_PORT']}`, pid: processes.pid('api') };
  await harness.warmUp(target, await stack.openSale(UNITS));
  const saleId = await stack.openSale(UNITS);
  const report = await harness.buy(target, { saleId, pool: 1, seconds: SECONDS });
  return toFigures(report, await countStored(stack, saleId));
}

async function measureDesign(
  stack: BenchServers,
  wrk: string,
  { name, units, consumer }: Design,
): Promise<Figures> {
  const { processes, appEnv, servers } = stack;
  const { redisUrl, mysqlUrl } = servers;
  // Only the consumers' work is compared: no design but Holdfast's has Temporal.
  processes.freeze('temporal');
  const rabbitmqUrl = name === 'rabbitmq' ? await startRabbitmq({ processes, progress: () => {} }) : '';
  const env = { ...appEnv, PEER: name, RABBITMQ_URL: rabbitmqUrl };
  const url = await stack.startServer('front', 'peers/front-server.js', env);
  const peer = await PEERS[name]({ servers: { redisUrl, mysqlUrl, rabbitmqUrl }, isIdempotent: false });
  const openSale = async (): Promise<string> => {
    // A design that stores before it answers adds the SKU itself.
    const saleId = consumer ? await stack.openSale(units) : `sustained-${Date.now()}`;
    await peer.openSale(saleId, units);
    return saleId;
  };
  const harness = createHarness(stack, wrk);
  const target = { url, pid: processes.pid('front') };
  const queueUrl = name === 'rabbitmq' ? rabbitmqUrl : redisUrl;
  const storing =
    consumer &&
    (await startConsumer(consumer.script, { storeUrl: mysqlUrl, queueUrl, queue: consumer.queue }));
  try {
    await harness.warmUp(target, await openSale());
    await peer.clear();
    storing?.begin();
    const saleId = await openSale();
    const report = await harness.buy(target, { saleId, pool: 1, seconds: SECONDS });
    const stored =
      name === 'shopify-rows' ? (await peer.count(saleId)).handedOver : await countStored(stack, saleId);
    return toFigures(report, stored);
  } finally {
    await storing?.end();
    await peer.close();
  }
}

async function countStored({ pool }: BenchServers, saleId: string): Promise<number> {
  const row = z.object({ stored: z.coerce.number() });
  const sql = 'SELECT COUNT(*) AS stored FROM orders WHERE sale_id = ?';
  return (await selectRows(pool, row, sql, [saleId]))[0]?.stored ?? 0;
}

function toFigures(report: HttpReport, stored: number): Figures {
  assert.equal(report.refusals, 0, 'every order is accepted');
  const { rate = 0, p50Ms = 0, p99Ms = 0 } = figuresOf(report, report.answers);
  // wrk ends without the answers to its last requests, whose orders may be stored.
  const payable = Math.min(stored, report.answers);
  return { payable: payable / report.seconds, rate, waiting: report.answers - payable, p50Ms, p99Ms };
}
