/** Callers that wait for changes while a subscription, Redis, their own connection or the API ends. */

import { channel as diagnostics } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { ServerResponse } from 'node:http';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { WATCHER_BOUNDS, type WatcherBounds } from '../../../src/api/watchers.ts';
import type { OrderState } from '../../../src/orders/order.ts';
import { connectRedis, type RedisClient, transact } from '../../../src/redis/connection.ts';
import { orderKeys } from '../../../src/redis/keys.ts';
import { startApi } from '../../../stack/app.ts';
import { findFreePort } from '../../../stack/processes/ports.ts';
import { openTcpProxy, type TcpProxy } from '../../../stack/servers/tcp-proxy.ts';
import { openEvents } from '../../support/event-stream.ts';
import { buildSale } from '../../support/factories.ts';
import { ownRedisUrl } from '../../support/own-redis.ts';
import { acceptedOf, openShopper, orderOf, type Shopper } from '../../support/shopper.ts';
import { silent } from '../../support/stores.ts';
import { apiAloneEnv, openTestProcesses } from '../../support/test-processes.ts';
import { waitFor } from '../../support/wait.ts';
import { scrape } from '../metrics.ts';
import { openApi, type TestApi } from '../open-api.ts';
import { openRaw } from '../raw-http.ts';

const HOUR_MS = 3_600_000;
/** Of an order with as many and as long lines as there may be, and a full kilobyte of metadata. */
const EVENT_BYTES_MAX = 8_192;

let wire: TcpProxy;
let api: TestApi;
/** Past the wire. */
let redis: RedisClient;
let saleId: string;
let shopper: Shopper;

beforeAll(async () => {
  wire = await openTcpProxy(new URL(await ownRedisUrl()).host);
  redis = await connectRedis([await ownRedisUrl()], silent);
  api = await openApi({ REDIS_URL: [`redis://${wire.address}`] });
  ({ saleId } = await api.stores.openSale(buildSale({ skus: [lamps] })));
  shopper = await api.shopper();
});
afterAll(async () => {
  await api.close();
  redis.disconnect();
  await wire.close();
});

const lamps = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100, limitPerUser: null };
const stored: OrderState = { status: 'awaiting_payment', version: 1, payment: 'none', reason: null };
const cancelled: OrderState = { status: 'cancelled', version: 2, payment: 'none', reason: 'shopper_request' };

/** An API that counts how often it looks each order up. */
async function openWatched(bounds: Partial<WatcherBounds>) {
  const looks = new Map<string, number>();
  const { reservations } = api.stores;
  const app = await api.withParts({
    watcherBounds: { ...WATCHER_BOUNDS, ...bounds },
    reservations: {
      ...reservations,
      lookUp(orderNo) {
        looks.set(orderNo, (looks.get(orderNo) ?? 0) + 1);
        return reservations.lookUp(orderNo);
      },
    },
  });
  const { authorization } = shopper;
  return {
    url: app.url,
    looks,
    events: (orderNo: string) => openEvents(app.url, orderNo, { authorization }),
    poll: async (path: string) => (await openShopper(app.url, shopper.userId)).call('GET', path),
  };
}

async function untilWaiting(url: string, polls: number, streams: number): Promise<void> {
  await waitFor(`${polls} polls and ${streams} streams to wait`, async () => {
    const samples = await scrape(url);
    const waiting = (kind: string) => samples.get(`holdfast_watchers{kind="${kind}"}`) ?? 0;
    return waiting('poll') === polls && waiting('stream') === streams;
  });
}

test('after a lost subscription each order is looked up once, and all that wait learn what has changed meanwhile', async () => {
  const [changed, same] = [await shopper.buy(saleId), await shopper.buy(saleId)];
  const { url, looks, events, poll } = await openWatched({ lookEveryMs: HOUR_MS });
  const stream = await events(changed);
  // The call's own look, and the one of the subscription.
  await waitFor('the subscription', () => looks.get(changed) === 2);
  const [second, other] = [await events(changed), await events(same)];
  const polled = poll(`/v1/orders/${changed}?wait=25`);
  await untilWaiting(url, 1, 3);
  looks.clear();

  // No connection can come between, and no message is sent.
  await transact(
    redis
      .multi()
      .client('KILL', 'TYPE', 'PUBSUB')
      .hset(orderKeys(changed).order, { ...cancelled, version: '2' }),
  );

  expect(orderOf(await polled)).toMatchObject({ status: 'cancelled' });
  for (const each of [stream, second])
    expect((await each.rest()).orders.map(({ version }) => version)).toEqual([0, 2]);
  await waitFor('the look at the other', () => looks.has(same));
  expect(looks).toEqual(
    new Map([
      [changed, 1],
      [same, 1],
    ]),
  );
  // It is subscribed again: messages are heard.
  await api.stores.reservations.project(same, cancelled);
  expect((await other.rest()).orders.map(({ version }) => version)).toEqual([0, 2]);
});

test('a stream that is not read keeps the newest state alone, and is ended; others are told meanwhile', async () => {
  // Large events fill the system's buffers of the connection, some megabytes, sooner.
  const metadata = Object.fromEntries(Array.from({ length: 5 }, (_, i) => [`note${i}`, 'x'.repeat(180)]));
  const skus = Array.from({ length: 20 }, (_, i) => ({ ...lamps, sku: `${i}`.padEnd(100, 'x') }));
  const sale = await api.stores.openSale(buildSale({ skus }));
  const items = skus.map(({ sku }) => ({ sku, quantity: 1 }));
  const { orderNo } = acceptedOf(await shopper.placeOrder({ saleId: sale.saleId, items, metadata }));
  const app = await api.withParts({ watcherBounds: WATCHER_BOUNDS }, { stuckTimeoutMs: 5_000 });
  const unread = await openRaw(app.url);
  const answered = nextResponse();
  unread.write(
    `GET /v1/orders/${orderNo}/events HTTP/1.1\r\nHost: x\r\nAuthorization: ${shopper.authorization}\r\n\r\n`,
  );
  const response = await answered;
  await untilWaiting(app.url, 0, 1);
  unread.stopReading();
  const reader = await openEvents(app.url, orderNo, { authorization: shopper.authorization });
  await reader.next();

  let version = 0;
  let keptBytes = 0;
  await waitFor('the stream to be ended', async () => {
    for (const until = version + 100; version < until;) {
      version += 1;
      await api.stores.reservations.project(orderNo, { ...stored, version });
      expect(await reader.next()).toMatchObject({ version });
      keptBytes = Math.max(keptBytes, response.writableLength);
    }
    return response.closed;
  });

  // What was begun before the mark was reached, and no more.
  expect(keptBytes).toBeLessThan(response.writableHighWaterMark + EVENT_BYTES_MAX);
  expect(keptBytes).toBeGreaterThan(0);
  await untilWaiting(app.url, 0, 1);
  reader.close();
  await untilWaiting(app.url, 0, 0);
});

const requestStart = z.object({ response: z.instanceof(ServerResponse) });

/** That of the next request to a server of this process. */
function nextResponse(): Promise<ServerResponse> {
  return new Promise((resolve) => {
    const started = diagnostics('http.server.request.start');
    function take(message: unknown): void {
      started.unsubscribe(take);
      resolve(requestStart.parse(message).response);
    }
    started.subscribe(take);
  });
}

test('an API that is told to stop ends streams and polls at once, and itself with them', async () => {
  const orderNos = await Promise.all([shopper.buy(saleId), shopper.buy(saleId)]);
  const port = await findFreePort();
  const url = `http://127.0.0.1:${port}`;
  const ends: string[] = [];
  const parts = await openTestProcesses((end) => ends.push(end.message));
  onTestFinished(() => parts.close());
  const env = apiAloneEnv(await ownRedisUrl(), api.stores.config.MYSQL_URL, url);
  await startApi(parts.processes, { name: 'api', env });
  const { authorization, call } = await openShopper(url, shopper.userId);
  const streams = await Promise.all(orderNos.map((orderNo) => openEvents(url, orderNo, { authorization })));
  const [polled, known] = [{}, { 'if-none-match': '"0"' }].map((headers) =>
    call('GET', `/v1/orders/${orderNos[0]}?wait=25`, { headers }),
  );
  await untilWaiting(url, 2, 2);

  process.kill(parts.processes.pid('api'), 'SIGTERM');

  for (const stream of streams) {
    const { orders, text } = await stream.rest();
    expect(orders.map(({ version }) => version)).toEqual([0]);
    // When to come back, to another process.
    expect(text).toMatch(/retry: \d+\n\n$/);
  }
  expect(orderOf(await (polled ?? expect.unreachable()))).toMatchObject({ status: 'queued', version: 0 });
  expect(await known).toMatchObject({ status: 304, body: '' });
  await waitFor('the end', () => ends[0]);
  expect(ends[0]).toContain('exit code 0');
  const log = readFileSync(parts.processes.logFile('api'), 'utf8');
  expect(log).not.toContain('not stopped within the deadline');
});

test('while Redis is away those that wait are told what MySQL has', async () => {
  const orderNo = await shopper.buy(saleId);
  const { url, events, poll } = await openWatched({ lookEveryMs: 500 });
  const stream = await events(orderNo);
  expect(await stream.next()).toMatchObject({ version: 0 });
  const polled = poll(`/v1/orders/${orderNo}?wait=25`);
  await untilWaiting(url, 1, 1);
  const { order } = (await api.stores.reservations.readOrder(orderNo)) ?? expect.unreachable();

  wire.cut();
  try {
    await api.stores.orders.storeOrder(order, 'due');

    expect(await stream.next()).toMatchObject({ status: 'awaiting_payment', version: 1 });
    expect(orderOf(await polled)).toMatchObject({ status: 'awaiting_payment', version: 1 });
  } finally {
    wire.mend();
  }
});
