/** A steady load on a shop, far below what it can take: orders and polls, each at a rate of their own. */

import assert from 'node:assert/strict';
import { cpus } from 'node:os';
import { z } from 'zod';
import { signToken } from '../../../src/api/http/auth.ts';
import { selectRows } from '../../../src/mysql/connection.ts';
import { demoSecrets } from '../../../stack/app.ts';
import { waitUntil } from '../../../stack/processes/wait.ts';
import type { LoadGenerator, LoadReport, Outcome } from '../../load.ts';
import { readMemory } from '../../memory.ts';
import type { Shop } from './shop.ts';

/**
 * Orders a second, and polls a second. At 200 the engine, which works off what the load leaves it, took the
 * last of two cores, and the percentiles of one size differed by a factor of ten between rounds.
 */
export const RATE = 100;
/** Until V8 has compiled what the calls run through. */
const WARM_UP_SECONDS = 3;
export const SECONDS = 15;
const CONNECTIONS = 64;
/** As many as are asked for in one stretch. */
const POLLED = RATE * SECONDS;
const STORE_TIMEOUT_MS = 60_000;

export interface Generators {
  buying: LoadGenerator;
  polling: LoadGenerator;
  tokens: readonly string[];
}

/**
 * Starts API and worker, and ends them afterwards; nothing is left for the engine to do.
 * @returns the figures of the load, and memory after it
 */
export async function measureSteadyLoad(shop: Shop, { buying, polling, tokens }: Generators) {
  const storedBefore = await countOrders(shop);
  const { apiUrl } = await shop.open();
  try {
    const { hostname: host, port } = new URL(apiUrl);
    const polled = await choosePolled(shop);
    const target = { host, port: Number(port), saleId: shop.saleId, tokens: [...tokens] };
    const load = { ...target, connections: CONNECTIONS, rate: RATE };
    const runBoth = (seconds: number) =>
      Promise.all([buying.run({ ...load, seconds }), polling.run({ ...load, seconds, polled })]);
    const [idleApi, idleWorker] = [readMemory(shop.pid('api')), readMemory(shop.pid('worker'))];
    const warmUp = await runBoth(WARM_UP_SECONDS);
    const cpuBefore = readCpu();
    const [orders, polls] = await runBoth(SECONDS);
    const cpuAfter = readCpu();
    const figures = {
      acceptP99: onlyOutcome(orders, 'accepted').p99Ms,
      statusP99: onlyOutcome(polls, 'polled').p99Ms,
      apiMb: readMemory(shop.pid('api')).nowMb,
      workerMb: readMemory(shop.pid('worker')).nowMb,
      idleShare: (100 * (cpuAfter.idleMs - cpuBefore.idleMs)) / (cpuAfter.allMs - cpuBefore.allMs),
    };
    await waitUntilStored(shop, storedBefore + warmUp[0].accepted.length + orders.accepted.length);
    return { figures, idle: { apiMb: idleApi.nowMb, workerMb: idleWorker.nowMb } };
  } finally {
    await shop.shut();
    await markStarted(shop);
  }
}

/** Of all cores since the machine started. */
function readCpu(): { idleMs: number; allMs: number } {
  const sum = (times: readonly number[]): number => times.reduce((total, ms) => total + ms, 0);
  const cores = cpus().map(({ times }) => times);
  return {
    idleMs: sum(cores.map(({ idle }) => idle)),
    allMs: sum(cores.flatMap((times) => Object.values(times))),
  };
}

/** So that the next worker finds nothing to start. */
async function markStarted({ pool }: Shop): Promise<void> {
  await pool.query(
    'UPDATE orders SET workflow_started_at = NOW(3), engine_due_at = NULL WHERE engine_due_at IS NOT NULL',
  );
}

/** Orders by chance, so that the larger the shop, the seldomer one is asked for twice. */
function choosePolled({ seeded }: Shop): Promise<{ orderNo: string; token: string }[]> {
  return Promise.all(
    Array.from({ length: POLLED }, async () => {
      const order = seeded[Math.floor(Math.random() * seeded.length)];
      assert(order);
      return { orderNo: order.orderNo, token: await signToken(demoSecrets.jwt, order.userId, '1h') };
    }),
  );
}

function onlyOutcome({ outcomes, unanswered }: LoadReport, name: string): Outcome {
  const [outcome, ...others] = outcomes;
  assert(outcome?.name === name && others.length === 0 && unanswered === 0, JSON.stringify(outcomes));
  return outcome;
}

async function countOrders({ pool }: Shop): Promise<number> {
  const [row] = await selectRows(
    pool,
    z.object({ orders: z.int() }),
    'SELECT COUNT(*) AS orders FROM orders',
    [],
  );
  return row?.orders ?? 0;
}

/** Every accepted order, once: the last are stored by their workflows. */
async function waitUntilStored(shop: Shop, expected: number): Promise<void> {
  await waitUntil({
    what: `${expected} orders to be stored`,
    timeoutMs: STORE_TIMEOUT_MS,
    check: async () => (await countOrders(shop)) >= expected,
  });
  assert.equal(await countOrders(shop), expected);
}
