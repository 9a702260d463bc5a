/** The part `poll`: how many shoppers a second learn how their order stands, and that nothing has changed. */

import assert from 'node:assert/strict';
import { DEFAULT_STORES_PER_SECOND } from '../../../src/config.ts';
import { createReservations } from '../../../src/orders/reservations.redis.ts';
import { orderKeys } from '../../../src/redis/keys.ts';
import { startApi } from '../../../stack/app.ts';
import {
  CPU_COLUMNS,
  describeOthers,
  MEASURE_SECONDS,
  openHarness,
  WARM_UP_SECONDS,
  type Harness,
  type Target,
} from '../../http/harness.ts';
import { readRequest } from '../../http/wrk.ts';
import type { Contestant, Figures, OpenPart, Part } from '../part.ts';

const OURS = 'Holdfast';
const LIMIT = 'bare Koa + one HMGET';
const ORDERS = 2_000;

export const pollPart: Part = {
  name: 'poll',
  title: 'Polling the status of an order',
  about:
    'Shoppers ask for their own orders, from 64 connections that ask again as soon as they are answered: first ' +
    'without a known version (200 and the order), then with one in If-None-Match (304). The bare handler reads the ' +
    'status and the version of the same order from the same Redis.',
  columns: [
    { key: 'reads', label: 'reads', unit: '/s', digits: 0 },
    { key: 'notModified', label: '304s', unit: '/s', digits: 0 },
    { key: 'p99Ms', label: 'p99 of reads', unit: 'ms', digits: 1 },
    ...CPU_COLUMNS,
  ],
  charted: 'reads',
  targets: [
    { text: 'reads, of the limit', figure: 'reads', of: OURS, against: [LIMIT], atLeast: 0.65 },
    { text: '304s, of the limit', figure: 'notModified', of: OURS, against: [LIMIT], atLeast: 0.75 },
  ],
  open,
};

async function open(progress: (line: string) => void): Promise<OpenPart> {
  const harness = await openHarness(progress);
  const { stack } = harness;
  try {
    await startApi(stack.processes, { name: 'api', env: stack.appEnv });
    const orders = await placeOrders(harness);
    const prefix = orderKeys(orders[0]?.orderNo ?? '').order.replace(orders[0]?.orderNo ?? '', '');
    const env = { ...stack.appEnv, BARE: 'limit', ORDER_KEY_PREFIX: prefix };
    const limitUrl = await stack.startServer('limit', 'peers/bare-server.js', env);
    stack.processes.freeze('temporal');
    const api = { url: `http://127.0.0.1:${stack.appEnv['API_PORT']}`, pid: stack.processes.pid('api') };
    const limit = { url: limitUrl, pid: stack.processes.pid('limit') };
    const contestants: Contestant[] = [];
    for (const [name, role, target] of [
      [OURS, 'ours', api],
      [LIMIT, 'limit', limit],
    ] as const) {
      await harness.load(
        target,
        orders.map(({ orderNo, token }) => readRequest(orderNo, token, null)),
        WARM_UP_SECONDS,
      );
      contestants.push({ name, role, measure: () => poll(harness, target, orders) });
    }
    return {
      contestants,
      notes: () => [
        `${ORDERS.toLocaleString('en-US')} queued orders, each with a shopper of its own, who asks again and again with the same token.`,
        'One read and one 304 of each server were looked at before each load: status, body and ETag. CPU and p99 are of the reads.',
        describeOthers(),
      ],
      close: harness.close,
    };
  } catch (error) {
    await harness.close();
    throw error;
  }
}

interface PolledOrder {
  orderNo: string;
  token: string;
}

async function placeOrders({ stack, tokens }: Harness): Promise<PolledOrder[]> {
  const saleId = await stack.openSale(ORDERS);
  const reservations = createReservations(stack.redis, { storesPerSecond: DEFAULT_STORES_PER_SECOND });
  const owned = (await tokens(1)).slice(0, ORDERS);
  return Promise.all(
    owned.map(async (token, i) => {
      const outcome = await reservations.reserve({
        saleId,
        userId: `shopper-1-${i}`,
        idempotencyKey: `poll-${i}`,
        fingerprint: '',
        items: [{ sku: 'unit', quantity: 1 }],
        ip: '',
        userAgent: '',
      });
      assert(outcome.kind === 'reserved');
      return { orderNo: outcome.orderNo, token };
    }),
  );
}

async function poll({ load }: Harness, target: Target, orders: readonly PolledOrder[]): Promise<Figures> {
  const etag = await lookAt(target, orders);
  const requestsWith = (known: string | null): string[] =>
    orders.map(({ orderNo, token }) => readRequest(orderNo, token, known));
  const reads = await load(target, requestsWith(null), MEASURE_SECONDS);
  const notModified = await load(target, requestsWith(etag), MEASURE_SECONDS);
  assert.equal(reads.refusals + notModified.refusals, 0, 'every order is shown');
  return {
    reads: reads.answers / reads.seconds,
    notModified: notModified.answers / notModified.seconds,
    p99Ms: reads.p99Ms,
    serverCpu: reads.serverCpu,
    generatorCpu: reads.generatorCpu,
  };
}

/** wrk looks at no body. @returns the ETag, the same for all: none of the orders has changed yet */
async function lookAt({ url }: Target, orders: readonly PolledOrder[]): Promise<string> {
  const order = orders[0];
  assert(order);
  const ask = (headers: Record<string, string>) =>
    fetch(`${url}/v1/orders/${order.orderNo}`, {
      headers: { Authorization: `Bearer ${order.token}`, ...headers },
    });
  const first = await ask({});
  assert.equal(first.status, 200);
  assert.match(await first.text(), new RegExp(`"orderNo":"${order.orderNo}","?.*"status":"queued"`));
  const etag = first.headers.get('etag');
  assert(etag, 'a read has an ETag');
  const again = await ask({ 'If-None-Match': etag });
  assert.equal(again.status, 304);
  return etag;
}
