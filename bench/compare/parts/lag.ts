/** The part `lag`: how far storing stays behind a front at full speed, with everything on this machine. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { selectRows, type Pool } from '../../../src/mysql/connection.ts';
import { startApi, startWorker } from '../../../stack/app.ts';
import { startLoadGenerator, type LoadGenerator } from '../../load.ts';
import { percentile, signTokens } from '../../shoppers.ts';
import type { Figures, OpenPart, Part } from '../part.ts';
import { openCheckoutStack, type CheckoutStack } from './payable/checkout-stack.ts';
import { untilFollowed } from './payable/holdfast.ts';

const OURS = 'Holdfast';
const CONNECTIONS = 64;
const SECONDS = 5;
const USERS = 1_000;
/** So many that nothing sells out. */
const UNITS = 10_000_000;

export const lagPart: Part = {
  name: 'lag',
  title: 'Lag: from accepted to payable under full load',
  about: `${CONNECTIONS} connections buy for ${SECONDS} seconds as fast as they are answered, with the worker and Temporal at work beside: the time from each order's reservation in Redis to its row in MySQL.`,
  columns: [
    { key: 'maxMs', label: 'lag, max', unit: 'ms', digits: 0 },
    { key: 'p99Ms', label: 'lag, p99', unit: 'ms', digits: 0 },
    { key: 'p50Ms', label: 'lag, p50', unit: 'ms', digits: 0 },
    { key: 'accepted', label: 'accepted', unit: 'orders/s', digits: 0 },
  ],
  charted: 'maxMs',
  targets: [{ text: 'ms behind the front at most', figure: 'maxMs', of: OURS, atMost: 1_000 }],
  async open(progress): Promise<OpenPart> {
    const stack = await openCheckoutStack(progress);
    const generator = startLoadGenerator();
    const close = async (): Promise<void> => {
      await generator.stop();
      await stack.close();
    };
    try {
      await startApi(stack.processes, { name: 'api', env: stack.env });
      const tokens = await signTokens(USERS);
      const measure = () => measureLag(stack, generator, tokens);
      return { contestants: [{ name: OURS, role: 'ours', measure }], notes: () => NOTES, close };
    } catch (error) {
      await close();
      throw error;
    }
  },
};

const NOTES = [
  "The time of a row is that of its statement; the commit follows within milliseconds. Redis' clock and MySQL's are this machine's.",
];

async function measureLag(
  stack: CheckoutStack,
  generator: LoadGenerator,
  tokens: string[],
): Promise<Figures> {
  const { processes, env, apiUrl, pool } = stack;
  await startWorker(processes, { name: 'worker', env });
  const saleId = await stack.openSale(UNITS);
  await untilFollowed(stack, saleId);
  const { hostname: host, port } = new URL(apiUrl);
  const load = { host, port: Number(port), saleId, tokens, connections: CONNECTIONS, rate: null };
  const { accepted, unanswered, seconds } = await generator.run({ ...load, seconds: SECONDS });
  assert.equal(unanswered, 0, 'every purchase is answered');
  await stack.untilHeld(saleId, accepted.length);
  await processes.kill('worker');
  const lagsMs = await readLags(pool, saleId);
  assert.equal(lagsMs.length, accepted.length, 'every accepted order is stored, and once');
  await stack.clear();
  return {
    maxMs: percentile(lagsMs, 1),
    p99Ms: percentile(lagsMs, 0.99),
    p50Ms: percentile(lagsMs, 0.5),
    accepted: accepted.length / seconds,
  };
}

async function readLags(pool: Pool, saleId: string): Promise<number[]> {
  const rows = await selectRows(
    pool,
    z.object({ lag: z.coerce.number() }),
    'SELECT TIMESTAMPDIFF(MICROSECOND, reserved_at, created_at) / 1000 AS lag FROM orders WHERE sale_id = ?',
    [saleId],
  );
  return rows.map(({ lag }) => lag);
}
