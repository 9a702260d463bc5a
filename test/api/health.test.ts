/** Liveness, readiness, unexpected failures, and the demo that is there only when it is configured. */

import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { z } from 'zod';
import { readyReply } from '../../src/api/health-routes.ts';
import { withRedis } from '../../stack/servers/redis.ts';
import { buildSale } from '../support/factories.ts';
import { buildDemo } from '../support/http-app.ts';
import { acceptedOf, refusalOf, send } from '../support/shopper.ts';
import { waitFor } from '../support/wait.ts';
import { openApi, openMysqlAway, type TestApi } from './open-api.ts';

let api: TestApi;

beforeAll(async () => {
  api = await openApi();
});

test('a process with its stores is alive and ready', async () => {
  expect(await send(`${api.url}/healthz`, 'GET')).toMatchObject({ status: 200, body: { status: 'ok' } });
  expect(await send(`${api.url}/readyz`, 'GET')).toMatchObject({
    status: 200,
    body: { status: 'ready', redis: 'up', mysql: 'up' },
  });
});

test('without MySQL it is ready all the same, and says so: selling needs Redis alone', async () => {
  const { pool, ...parts } = await openMysqlAway();
  const app = await api.withParts({ pool, ...parts });
  onTestFinished(async () => {
    await app.close();
    await pool.end();
  });
  expect(await send(`${app.url}/readyz`, 'GET')).toMatchObject({
    status: 200,
    body: { status: 'ready', redis: 'up', mysql: 'down' },
  });
  const { saleId } = await api.stores.openSale(buildSale());
  await (await app.shopper()).buy(saleId);
});

test('a process whose Redis has become a replica is not ready, until it takes writes again', async () => {
  const follow = (...master: string[]) =>
    withRedis(api.stores.config.REDIS_URL[0] ?? '', (redis) => redis.call('REPLICAOF', ...master));
  const become = (status: string) =>
    waitFor(`to be ${status}`, async () => {
      const seen = readyReply.parse((await send(`${api.url}/readyz`, 'GET')).body);
      return seen.status === status && seen;
    });
  onTestFinished(async () => void (await follow('NO', 'ONE')));
  // Nothing listens on port 1.
  await follow('127.0.0.1', '1');
  expect(await become('not_ready')).toMatchObject({ redis: 'down', mysql: 'up' });
  await follow('NO', 'ONE');
  expect(await become('ready')).toMatchObject({ redis: 'up', mysql: 'up' });
});

test('however many ask at once whether a process is ready, its stores are asked five times a second at most', async () => {
  const infos = async () => {
    const stats = await api.stores.redis.info('commandstats');
    return Number(/cmdstat_info:calls=(\d+)/.exec(stats)?.[1]);
  };
  const before = await infos();
  const begunMs = performance.now();

  const replies = await Promise.all(Array.from({ length: 50 }, () => send(`${api.url}/readyz`, 'GET')));

  expect(new Set(replies.map(({ status }) => status))).toEqual(new Set([200]));
  const seconds = (performance.now() - begunMs) / 1_000;
  // Reading the count is a call. On a slow machine the callers come in several groups, and a connection
  // asks once a second by itself.
  expect((await infos()) - before - 1).toBeLessThanOrEqual(4 + 7 * seconds);
});

test('a process that is stopping gets no new requests', async () => {
  const app = await api.withParts({ isStopping: () => true });
  expect((await send(`${app.url}/readyz`, 'GET')).status).toBe(503);
  expect((await send(`${app.url}/healthz`, 'GET')).status).toBe(200);
});

test('an unexpected failure answers 500 and shows nothing of its cause', async () => {
  const verifyNotice = () => {
    throw new TypeError('no mysql at 127.0.0.1');
  };
  const app = await api.withParts({ provider: { ...api.provider, verifyNotice } });
  const reply = await send(`${app.url}/v1/webhooks/payments`, 'POST', { body: {} });
  expect(refusalOf(reply)).toBe('500 internal_error');
});

test('without the demo there is no page and no token', async () => {
  expect(refusalOf(await send(`${api.url}/`, 'GET'))).toBe('404 no_such_resource');
  expect(refusalOf(await send(`${api.url}/demo/token`, 'POST'))).toBe('404 no_such_resource');
});

test('the demo serves its page, and a token that buys', async () => {
  const { saleId } = await api.stores.openSale(buildSale());
  const app = await api.withParts({ demo: buildDemo(saleId) });
  const page = await send(`${app.url}/`, 'GET');
  expect(page.status).toBe(200);
  expect(page.headers.get('content-type')).toContain('text/html');
  const reply = await send(`${app.url}/demo/token`, 'POST');
  const demo = z
    .strictObject({ token: z.string(), userId: z.string(), saleId: z.string(), temporalUiUrl: z.null() })
    .parse(reply.body);
  expect(demo.saleId).toBe(saleId);
  const order = await send(`${app.url}/v1/orders`, 'POST', {
    headers: { authorization: `Bearer ${demo.token}`, 'idempotency-key': 'k' },
    body: { saleId, items: [{ sku: 'lamp', quantity: 1 }] },
  });
  expect(order.status).toBe(202);
  expect(acceptedOf(order).saleId).toBe(saleId);
});
