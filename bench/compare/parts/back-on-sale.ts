/** The part `back-on-sale`: from the end of an unpaid hold until its unit can be bought again. */

import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { selectRows } from '../../../src/mysql/connection.ts';
import { saleKeys } from '../../../src/redis/keys.ts';
import { startApi, startWorker } from '../../../stack/app.ts';
import { startLoadGenerator, type Load, type LoadGenerator } from '../../load.ts';
import { percentile, signTokens } from '../../shoppers.ts';
import type { Figures, OpenPart, Part } from '../part.ts';
import { openCheckoutStack, type CheckoutStack } from './payable/checkout-stack.ts';
import { untilFollowed } from './payable/holdfast.ts';

const WINDOW_MS = 10_000;
/** All are bought before the first hold ends, so from then on units only come back. */
const BUY_SECONDS = 8;
const ORDERS_PER_SECOND = 50;
/** From the first purchase until the last hold has ended, and some seconds. */
const RUSH_SECONDS = 22;
const CONNECTIONS = 64;
const USERS = 1_000;
const UNITS = 10_000_000;
/** The resolution of the figures. */
const LOOK_EVERY_MS = 2;
const RELEASE_TIMEOUT_MS = 120_000;

export const backOnSalePart: Part = {
  name: 'back-on-sale',
  title: "Back on sale: from a hold's end to its unit",
  about:
    `${BUY_SECONDS * ORDERS_PER_SECOND} orders have ${WINDOW_MS / 1_000} s to pay, and nobody pays: the time from each ` +
    "order's deadline until a unit more is available in Redis. In the rush, 64 connections buy from another sale meanwhile.",
  columns: [
    { key: 'p50Ms', label: 'p50', unit: 'ms', digits: 0 },
    { key: 'p99Ms', label: 'p99', unit: 'ms', digits: 0 },
    { key: 'maxMs', label: 'max', unit: 'ms', digits: 0 },
  ],
  charted: 'p99Ms',
  targets: [],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress);
    const generators = [startLoadGenerator(), startLoadGenerator()] as const;
    const close = async (): Promise<void> => {
      await Promise.all(generators.map((generator) => generator.stop()));
      await stack.close();
    };
    try {
      await startApi(stack.processes, { name: 'api', env: stack.env });
      const tokens = await signTokens(USERS);
      const [shoppers, crowd] = generators;
      return {
        contestants: [
          { name: 'quiet', role: 'ours', measure: () => measure(stack, { tokens, shoppers }) },
          { name: 'in a rush', role: 'variant', measure: () => measure(stack, { tokens, shoppers, crowd }) },
        ],
        notes: () => NOTES,
        close,
      };
    } catch (error) {
      await close();
      throw error;
    }
  },
};

const NOTES = [
  `Redis was asked every ${LOOK_EVERY_MS} ms how many units are available. Units are alike, so the first that comes back counts for the first deadline, and so on.`,
];

interface Crowd {
  tokens: string[];
  shoppers: LoadGenerator;
  /** Buys from another sale as fast as it is answered. */
  crowd?: LoadGenerator;
}

async function measure(stack: CheckoutStack, { tokens, shoppers, crowd }: Crowd): Promise<Figures> {
  const { processes, env, apiUrl } = stack;
  await startWorker(processes, { name: 'worker', env });
  const saleId = await stack.openSale(UNITS, WINDOW_MS);
  const otherId = await stack.openSale(UNITS);
  await untilFollowed(stack, saleId);
  await untilFollowed(stack, otherId);
  const { hostname: host, port } = new URL(apiUrl);
  const load: Omit<Load, 'saleId' | 'rate' | 'seconds'> = {
    host,
    port: Number(port),
    tokens,
    connections: CONNECTIONS,
  };
  const rush = crowd?.run({ ...load, saleId: otherId, rate: null, seconds: RUSH_SECONDS });
  const { accepted } = await shoppers.run({
    ...load,
    saleId,
    rate: ORDERS_PER_SECOND,
    seconds: BUY_SECONDS,
  });
  assert(accepted.length > 0, 'orders are accepted');
  const backAtMs = await watchReturns(stack, saleId, accepted.length);
  await rush;
  const deadlinesMs = await readDeadlines(stack, saleId);
  assert.equal(deadlinesMs.length, accepted.length, 'every accepted order is stored, and once');
  await processes.kill('worker');
  await stack.clear();
  const lagsMs = backAtMs.map((atMs, i) => atMs - (deadlinesMs[i] ?? 0));
  assert(
    lagsMs.every((lagMs) => lagMs >= 0),
    'no hold ends before its deadline',
  );
  return {
    p50Ms: percentile(lagsMs, 0.5),
    p99Ms: percentile(lagsMs, 0.99),
    maxMs: percentile(lagsMs, 1),
  };
}

/** @returns for each of the units when it was back, in their order */
async function watchReturns({ redis }: CheckoutStack, saleId: string, units: number): Promise<number[]> {
  const { stock } = saleKeys({ saleId, shard: 0 });
  const backAtMs: number[] = [];
  const endMs = Date.now() + RELEASE_TIMEOUT_MS;
  while (backAtMs.length < units) {
    const back = units - Number(await redis.hget(stock, 'unit:held'));
    const nowMs = Date.now();
    while (backAtMs.length < back) backAtMs.push(nowMs);
    assert(nowMs < endMs, `${back} of ${units} units are back`);
    await delay(LOOK_EVERY_MS);
  }
  return backAtMs;
}

async function readDeadlines({ pool }: CheckoutStack, saleId: string): Promise<number[]> {
  const row = z.object({ deadline: z.date() });
  const sql = 'SELECT deadline FROM orders WHERE sale_id = ? ORDER BY deadline';
  return (await selectRows(pool, row, sql, [saleId])).map(({ deadline }) => deadline.getTime());
}
