/** API_PROCESSES: several real processes behind one port act as one. */

import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { z } from 'zod';
import { startApi, type AppEnv } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { buildSale } from '../support/factories.ts';
import { openShopper, send } from '../support/shopper.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';
import { apiAloneEnv, openTestProcesses, type TestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { scrape, scrapeCounter } from './metrics.ts';

let stores: TestStores;
let parts: TestProcesses;
let url: string;
let env: AppEnv;
let crashes: string[];

beforeAll(async () => {
  stores = await openTestStores();
});
beforeEach(async () => {
  await stores.redis.flushall();
  url = `http://127.0.0.1:${await findFreePort()}`;
  env = {
    ...apiAloneEnv(stores.config.REDIS_URL[0] ?? '', stores.config.MYSQL_URL, url),
    API_PROCESSES: '2',
  };
  crashes = [];
  parts = await openTestProcesses((crash) => crashes.push(crash.message));
});
afterEach(() => parts.close());

const logLine = z.looseObject({ pid: z.number(), msg: z.string() });

/** The log's lines of this message; a line that is no JSON is Node's own. */
function logged(msg: string): z.infer<typeof logLine>[] {
  const lines = readFileSync(parts.processes.logFile('api'), 'utf8').split('\n');
  const parsed = lines.filter((line) => line.startsWith('{')).map((line) => logLine.parse(JSON.parse(line)));
  return parsed.filter((line) => line.msg === msg);
}

const ready = () => new Set(logged('api ready').map(({ pid }) => pid));
const start = () => startApi(parts.processes, { name: 'api', env });

test('two processes serve one port, and the metrics are those of both', async () => {
  await start();
  await waitFor('both to be ready', () => ready().size === 2);
  expect(ready()).not.toContain(parts.processes.pid('api'));

  const notice = { headers: { 'content-type': 'application/json', connection: 'close' }, body: '{}' };
  for (let i = 0; i < 4; i += 1) await send(`${url}/v1/webhooks/payments`, 'POST', notice);

  for (let i = 0; i < 3; i += 1) {
    expect(await scrapeCounter(url, 'holdfast_notices_total')).toMatchObject({ forged: 4 });
  }
});

test('with a port of their own the metrics are there alone, and no counter drops when a process is replaced', async () => {
  env = { ...env, METRICS_PORT: String(await findFreePort()) };
  const metricsUrl = `http://127.0.0.1:${env['METRICS_PORT']}`;
  await start();
  const [victim = 0] = await waitFor('both to be ready', () => ready().size === 2 && ready());
  expect((await send(`${url}/metrics`, 'GET')).status).toBe(404);

  // Each on a connection of its own, so that both processes have counted some.
  const notice = { headers: { 'content-type': 'application/json', connection: 'close' }, body: '{}' };
  for (let i = 0; i < 8; i += 1) await send(`${url}/v1/webhooks/payments`, 'POST', notice);
  const forged = async () => (await scrapeCounter(metricsUrl, 'holdfast_notices_total'))['forged'];
  expect(await forged()).toBe(8);
  process.kill(victim, 'SIGKILL');
  await waitFor('the replacement', () => ready().size === 3);

  expect(await forged()).toBe(8);
  expect((await send(`${metricsUrl}/healthz`, 'GET')).status).toBe(200);
});

test('a frozen process keeps what it counted, and no gauge is as it was', async () => {
  env = { ...env, METRICS_PORT: String(await findFreePort()) };
  const metricsUrl = `http://127.0.0.1:${env['METRICS_PORT']}`;
  await start();
  const pids = [...(await waitFor('both to be ready', () => ready().size === 2 && ready()))];
  const notice = { headers: { 'content-type': 'application/json', connection: 'close' }, body: '{}' };
  for (let i = 0; i < 8; i += 1) await send(`${url}/v1/webhooks/payments`, 'POST', notice);
  const forged = async () => (await scrapeCounter(metricsUrl, 'holdfast_notices_total'))['forged'];
  expect(await forged()).toBe(8);
  const slots = async () => (await scrape(metricsUrl)).get('holdfast_engine_slots_taken');
  expect(await slots()).toBe(0);

  // Whichever is asked first: each alone leaves what the other shows.
  for (const pid of pids) {
    process.kill(pid, 'SIGSTOP');
    try {
      await stores.budget.acquire([`while ${pid} is frozen`]);
      const taken = await stores.redisStatus.countSlots();
      await waitFor('the gauge to follow', async () => (await slots()) === taken);
      expect(await forged()).toBe(8);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
  }
});

test('a process that dies is replaced, and the port stays open', async () => {
  await start();
  const [victim = 0] = await waitFor('both to be ready', () => ready().size === 2 && ready());

  process.kill(victim, 'SIGKILL');
  await waitFor('the replacement', () => ready().size === 3);

  expect(logged('an api process died')).toMatchObject([{ diedPid: victim, signal: 'SIGKILL' }]);
  expect((await send(`${url}/readyz`, 'GET')).status).toBe(200);
  expect(crashes).toEqual([]);
});

test('SIGTERM ends all of them, once what is in hand is answered', async () => {
  await start();
  const { saleId } = await stores.openSale(buildSale());
  const { authorization } = await openShopper(url);
  const body = JSON.stringify({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
  const socket = connect(Number(new URL(url).port), '127.0.0.1').setEncoding('latin1');
  const head = [
    'POST /v1/orders HTTP/1.1',
    'Host: holdfast',
    `Authorization: ${authorization}`,
    'Idempotency-Key: begun-before-the-end',
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    'Expect: 100-continue',
  ];
  socket.write(`${head.join('\r\n')}\r\n\r\n`);
  // One of them has the request in hand.
  expect((await once(socket, 'data'))[0]).toContain('100 Continue');

  process.kill(parts.processes.pid('api'), 'SIGTERM');
  await waitFor('all to stop', () => logged('stopping').length === 3);
  socket.write(body);

  expect((await once(socket, 'data'))[0]).toContain('HTTP/1.1 202');
  await waitFor('the end', () => crashes[0]);
  expect(crashes[0]).toContain('exit code 0');
  expect(logged('stopped')).toHaveLength(3);
  expect(logged('an api process died')).toEqual([]);
});

test('after SIGTERM all of them serve on for a while, and say that they are stopping', async () => {
  env = { ...env, DRAIN_SECONDS: '10' };
  await start();

  process.kill(parts.processes.pid('api'), 'SIGTERM');
  await waitFor('all to stop', () => logged('stopping').length === 3);

  for (let i = 0; i < 4; i += 1) {
    const { status, headers } = await send(`${url}/readyz`, 'GET');
    expect([status, headers.get('connection')]).toEqual([503, 'close']);
  }
  await waitFor('the end', () => crashes[0]);
  expect(crashes[0]).toContain('exit code 0');
  expect(logged('not stopped within the deadline')).toEqual([]);
});

test('one that cannot start ends the others, and says why', async () => {
  env = { ...env, REDIS_URL: 'redis://127.0.0.1:1' };
  await expect(start()).rejects.toThrow('Redis is not reachable');
});

test('when they keep dying, the process that replaces them ends with an error', async () => {
  const script = join('test', 'compositions', 'dying-api.js');
  await startApi(parts.processes, { name: 'api', env, script }).catch(() => {});
  expect(readFileSync(parts.processes.logFile('api'), 'utf8')).toContain(
    '5 api processes died within 60 seconds',
  );
});
