/** The part `sold-out`: how many shoppers a second learn that nothing is left. */

import assert from 'node:assert/strict';
import { saleKeys } from '../../../src/redis/keys.ts';
import { startApi } from '../../../stack/app.ts';
import {
  CPU_COLUMNS,
  describeOthers,
  describeTokens,
  figuresOf,
  LATENCY_COLUMNS,
  openHarness,
  REDIS_COLUMN,
  type HttpReport,
  type Target,
} from '../../http/harness.ts';
import type { OpenPart, Part } from '../part.ts';

const OURS = 'Holdfast';
const LIMIT = 'bare Koa + body + one EVALSHA';
const STOCK_KEY = 'peer:limit:stock';

export const soldOutPart: Part = {
  name: 'sold-out',
  title: 'Refusing when sold out',
  about:
    'Purchases at a sale without stock, from 64 connections that ask again as soon as they are answered. The bare ' +
    'handler looks into the same Redis and says no as well.',
  columns: [
    { key: 'rate', label: 'refused', unit: '/s', digits: 0 },
    ...LATENCY_COLUMNS,
    ...CPU_COLUMNS,
    REDIS_COLUMN,
  ],
  charted: 'rate',
  targets: [{ text: 'refusals, of the limit', figure: 'rate', of: OURS, against: [LIMIT], atLeast: 0.6 }],
  open,
};

async function open(progress: (line: string) => void): Promise<OpenPart> {
  const harness = await openHarness(progress);
  const { stack } = harness;
  const answers: number[] = [];
  try {
    await startApi(stack.processes, { name: 'api', env: stack.appEnv });
    const saleId = await stack.openSale(0);
    const env = { ...stack.appEnv, BARE: 'limit', STOCK_KEY };
    const limitUrl = await stack.startServer('limit', 'peers/bare-server.js', env);
    stack.processes.freeze('temporal');
    const targets = {
      ours: { url: `http://127.0.0.1:${stack.appEnv['API_PORT']}`, pid: stack.processes.pid('api') },
      limit: { url: limitUrl, pid: stack.processes.pid('limit') },
    };
    for (const target of Object.values(targets)) await harness.warmUp(target, saleId);
    const pools = { ours: 0, limit: 0 };
    const refuse = async (whose: keyof typeof targets): Promise<HttpReport> => {
      pools[whose] += 1;
      const report = await harness.buy(targets[whose], { saleId, pool: pools[whose] });
      answers.push(report.answers);
      assert.equal(report.refusals, report.answers, 'every order is refused');
      return report;
    };
    return {
      contestants: [
        {
          name: OURS,
          role: 'ours',
          async measure() {
            const report = await refuse('ours');
            const held = await stack.redis.hget(saleKeys({ saleId, shard: 0 }).stock, 'unit:held');
            assert.equal(held, '0', 'nothing is held');
            const [token = ''] = await harness.tokens(0);
            assert.equal(await askForCode(targets.ours, saleId, token), 'sold_out');
            return figuresOf(report, report.refusals);
          },
        },
        {
          name: LIMIT,
          role: 'limit',
          async measure() {
            const report = await refuse('limit');
            return figuresOf(report, report.refusals);
          },
        },
      ],
      notes: () => [
        describeTokens(answers),
        'Nothing was held, and the answer is 409 `sold_out`: checked after each load.',
        describeOthers(),
      ],
      close: harness.close,
    };
  } catch (error) {
    await harness.close();
    throw error;
  }
}

/** wrk counts statuses alone. */
async function askForCode({ url }: Target, saleId: string, token: string): Promise<unknown> {
  const response = await fetch(`${url}/v1/orders`, {
    method: 'POST',
    headers: {
      Authorization: `Bearer ${token}`,
      'Idempotency-Key': 'after-the-load',
      'Content-Type': 'application/json',
    },
    body: JSON.stringify({ saleId, items: [{ sku: 'unit', quantity: 1 }] }),
  });
  assert.equal(response.status, 409);
  const problem: unknown = await response.json();
  return typeof problem === 'object' && problem !== null && 'code' in problem ? problem.code : undefined;
}
