/** Before an API closes it drains: it serves on, and each answer is the last of its connection. */

import { once } from 'node:events';
import { Agent, request, type RequestListener } from 'node:http';
import { connect } from 'node:net';
import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { createHttpServer, type HttpServer } from '../../../src/api/http/http-server.ts';
import { startApi } from '../../../src/api/service.ts';
import { loadApiConfig } from '../../../src/config.ts';
import { openProvider } from '../../../src/providers/open.ts';
import { createPaced } from '../../../src/providers/pacing.ts';
import { openStores } from '../../../src/stores/open.ts';
import { findFreePort } from '../../../stack/processes/ports.ts';
import { openEvents } from '../../support/event-stream.ts';
import { buildSale } from '../../support/factories.ts';
import { openShopper, send } from '../../support/shopper.ts';
import { expectStockEquation } from '../../support/stock.ts';
import { openTestStores, silent, type TestStores } from '../../support/stores.ts';
import { apiAloneEnv } from '../../support/test-processes.ts';
import { waitFor } from '../../support/wait.ts';

const BUYERS = 50;
const lamps = { sku: 'lamp', name: 'Storm lamp', unitPrice: 4_900, total: 100_000, limitPerUser: null };

async function serve(handle: RequestListener): Promise<{ server: HttpServer; port: number }> {
  const server = createHttpServer(handle);
  const { port } = await server.listen(0, '127.0.0.1');
  onTestFinished(() => server.close());
  return { server, port };
}

/** A bare connection, and what came on it so far. */
async function openConnection(port: number) {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  onTestFinished(() => void socket.destroy());
  let text = '';
  socket.on('data', (chunk: string) => (text += chunk));
  const ended = once(socket, 'end');
  await once(socket, 'connect');
  return {
    write: (part: string) => void socket.write(part),
    until: (part: string) => waitFor(part, () => text.includes(part) && text),
    ended: async () => ended.then(() => text),
  };
}

const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: holdfast\r\n\r\n`;

test('a request that is under way when the drain begins is answered, and the answer closes the connection', async () => {
  let answer = (): void => {};
  const begun = new Promise<void>((resolve) => {
    answer = resolve;
  });
  let asked = 0;
  const { server, port } = await serve((_, response) => {
    asked += 1;
    void begun.then(() => response.end('here'));
  });
  const connection = await openConnection(port);
  connection.write(get('/'));
  await waitFor('the request', () => asked === 1);

  server.drain();
  answer();

  const text = await connection.ended();
  expect(text).toContain('HTTP/1.1 200 OK');
  expect(text).toContain('Connection: close');
  expect(text).toContain('here');
});

test('while it drains a server takes new connections', async () => {
  const { server, port } = await serve((_, response) => response.end('here'));
  server.drain();
  const connection = await openConnection(port);
  connection.write(get('/'));
  expect(await connection.ended()).toContain('Connection: close');
});

test('of requests that were sent together each is answered, and the last answer closes the connection', async () => {
  const answers: (() => void)[] = [];
  const { server, port } = await serve(({ url }, response) => {
    answers.push(() => void response.end(`of ${url}`));
  });
  const connection = await openConnection(port);
  connection.write(get('/one') + get('/two'));
  await waitFor('both requests', () => answers.length === 2);

  server.drain();
  for (const answer of answers) answer();

  const text = await connection.ended();
  expect(text.split('Connection: close')).toHaveLength(2);
  expect(text.indexOf('of /one')).toBeLessThan(text.indexOf('Connection: close'));
  expect(text).toContain('of /two');
});

test('a caller that is refused before its body has arrived keeps its connection until the next answer', async () => {
  const { server, port } = await serve((_, response) => {
    response.writeHead(503).end('refused');
  });
  server.drain();
  const connection = await openConnection(port);
  connection.write('POST / HTTP/1.1\r\nHost: holdfast\r\nContent-Length: 4\r\n\r\n');
  expect(await connection.until('refused')).not.toContain('Connection: close');
  connection.write(`body${get('/')}`);
  await connection.ended();
});

test('an idle connection is kept for as long as the setting says, also beyond the time in which a client must read', async () => {
  const server = createHttpServer((_, response) => response.end('here'), {
    keepAliveTimeoutMs: 3_600_000,
    stuckTimeoutMs: 100,
  });
  onTestFinished(() => server.close());
  const { port } = await server.listen(0, '127.0.0.1');
  const connection = await openConnection(port);
  connection.write(get('/'));
  expect(await connection.until('here')).toContain('Keep-Alive: timeout=3600');
});

let stores: TestStores;

beforeAll(async () => {
  stores = await openTestStores();
});

async function openService() {
  const url = `http://127.0.0.1:${await findFreePort()}`;
  const config = loadApiConfig({
    ...apiAloneEnv(stores.config.REDIS_URL[0] ?? '', stores.config.MYSQL_URL, url),
    USER_PURCHASES_PER_MINUTE: '1000000',
  });
  const own = await openStores(config, silent);
  const pace = createPaced(own.providerPace(config.PROVIDER_CALLS_PER_SECOND), 'shopper');
  const provider = openProvider(config, own.deployment, pace);
  return { url, service: await startApi(config, { stores: own, provider, log: silent }) };
}

/** Buys over one kept connection until an answer closes it. @returns what each purchase was answered */
async function buyUntilClosed(url: string, saleId: string): Promise<number[]> {
  const { authorization } = await openShopper(url);
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const answers: number[] = [];
  for (let connection: string | undefined; connection !== 'close';) {
    const asking = request(`${url}/v1/orders`, {
      agent,
      method: 'POST',
      headers: { authorization, 'idempotency-key': ulid(), 'content-type': 'application/json' },
    }).end(JSON.stringify({ saleId, items: [{ sku: 'lamp', quantity: 1 }] }));
    const [response] = await once(asking, 'response');
    response.resume();
    await once(response, 'end');
    answers.push(response.statusCode);
    ({ connection } = response.headers);
  }
  return answers;
}

test('shoppers who buy over kept connections while an API stops all get their answers', async () => {
  const { url, service } = await openService();
  const { saleId } = await stores.openSale(buildSale({ skus: [lamps] }));
  const watcher = await openShopper(url);
  const orderNo = await watcher.buy(saleId);
  const stream = await openEvents(url, orderNo, { authorization: watcher.authorization });
  const buying = Promise.all(Array.from({ length: BUYERS }, () => buyUntilClosed(url, saleId)));
  const held = async () => (await expectStockEquation(stores, saleId)).redis[0]?.held ?? 0;
  await waitFor('the rush', async () => (await held()) > 2 * BUYERS);
  expect((await send(`${url}/readyz`, 'GET')).status).toBe(200);

  service.drain?.begin();

  expect((await send(`${url}/readyz`, 'GET')).status).toBe(503);
  const answers = await buying;
  // It is not over yet: a balancer that has not read /readyz may still send.
  const late = await openShopper(url);
  await late.buy(saleId);
  await service.stop();
  expect(new Set(answers.flat())).toEqual(new Set([202]));
  expect(await held()).toBe(answers.flat().length + 2);
  expect((await stream.rest()).text).toMatch(/retry: \d+\n\n$/);
});
