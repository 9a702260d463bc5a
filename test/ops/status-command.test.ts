/** `ops status` says what is wrong, with each part away in turn, and never waits for one. */

import { Writable } from 'node:stream';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import { openScreen } from '../../src/ops/terminal.ts';
import { asProduct } from '../../stack/servers/accounts.ts';
import { withRedis } from '../../stack/servers/redis.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openOps } from '../support/ops.ts';
import { startPrivateRedis } from '../support/private-redis.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeEach(async () => {
  stores = await openTestStores();
});

const NOWHERE = '127.0.0.1:1';
const worker = {
  workerId: 'a',
  host: 'shop-1',
  pid: 7,
  build: 'v1',
  upMs: 1_000,
  url: 'http://127.0.0.1:9464',
  hanging: [],
};

test('a worker that lives, and nothing that waits: exit code 0', async () => {
  await stores.redisStatus.beat(worker);
  const { exitCode, out } = await openOps(stores)('status');
  expect(out).toMatch(/^Nothing is wrong\.\n\nWhat waits\n/);
  expect(out).toMatch(/\nWorkers\nstate +seen +host +pid +build +probe\nalive +\d+ s +shop-1 +7 +v1 +http/);
  expect(exitCode).toBe(0);
});

test('what waits is counted, and a lack of workers is wrong: exit code 1', async () => {
  const { saleId } = await stores.openSale(buildSale());
  await stores.reservations.reserve(buildReserveRequest({ saleId }));
  const { exitCode, out } = await openOps(stores)('status');
  expect(out).toMatch(/^Wrong\n {2}No worker lives/);
  expect(out).toMatch(/accepted, not stored +1, the oldest \d+ s\n/);
  expect(out).toMatch(/\nWorkers\n {2}none\n$/);
  expect(exitCode).toBe(1);
});

test.each([
  ['Redis', { REDIS_URL: `redis://${NOWHERE}` }, /Redis does not answer/, /engine slots taken +not known/],
  ['MySQL', { MYSQL_URL: `mysql://u:p@${NOWHERE}/none` }, /MySQL does not answer/, /refunds due +not known/],
  ['Temporal', { TEMPORAL_ADDRESS: NOWHERE }, /Temporal does not answer/, /refunds due +0/],
])('with %s away the others are shown', async (_, env, wrong, shown) => {
  await stores.redisStatus.beat(worker);
  await stores.mysqlStatus.beat(worker);
  const { exitCode, out } = await openOps(stores, env)('status');
  expect(out).toMatch(wrong);
  expect(out).toMatch(shown);
  expect(out).toMatch(/alive +\d+ s/);
  expect(exitCode).toBe(1);
});

test('stores that answer slowly are shown, and their slowness is named', async () => {
  await stores.redisStatus.beat(worker);
  await stores.mysqlStatus.beat(worker);
  const { exitCode, out } = await openOps(stores, await behindWires(600))('status');
  expect(out).not.toMatch(/(?:Redis|MySQL|Temporal) does not answer|not known/);
  expect(out).toMatch(/alive +\d+ s/);
  expect(out).toMatch(/engine slots taken +0\n/);
  expect(out).toMatch(/refunds due +0\n/);
  // By the time that it takes to connect as well.
  expect(out).toMatch(/MySQL answered after \d+ s: it, or this machine, is busy\./);
  expect(exitCode).toBe(1);
});

/** Both stores, each part of an answer so much later. */
async function behindWires(lateMs: number): Promise<Record<string, string>> {
  const behind = async (given: string): Promise<string> => {
    const url = new URL(given);
    const wire = await openTcpProxy(url.host);
    onTestFinished(() => wire.close());
    wire.slow(lateMs);
    url.host = wire.address;
    return url.href;
  };
  return {
    REDIS_URL: await behind(asProduct(stores.config.REDIS_URL[0] ?? '')),
    MYSQL_URL: await behind(asProduct(stores.config.MYSQL_URL)),
  };
}

test('a Redis that has become a replica is named first, and what it has is shown', async () => {
  const redis = await startPrivateRedis();
  onTestFinished(redis.stop);
  await withRedis(redis.url, (client) => client.replicaof('127.0.0.1', 1));
  await stores.mysqlStatus.beat(worker);
  const { exitCode, out } = await openOps(stores, { REDIS_URL: redis.url }, 200)('status');
  expect(out).toMatch(/^Wrong\n {2}Redis takes no writes.*\n {4}→ Let the address in REDIS_URL lead to/);
  expect(out).not.toMatch(/does not answer/);
  expect(out).toMatch(/engine slots taken +0/);
  expect(exitCode).toBe(1);
});

test('a program gets it as JSON', async () => {
  await stores.redisStatus.beat(worker);
  const { out } = await openOps(stores)('status', '--json');
  expect(JSON.parse(out)).toMatchObject({
    wrong: [],
    isTemporalUp: true,
    workers: [worker],
    slots: 0,
    parked: [],
  });
});

test('--watch looks again, sees a server that is back, and ends with the exit code of the last look', async () => {
  await stores.redisStatus.beat(worker);
  const url = new URL(stores.config.REDIS_URL[0] ?? '');
  const proxy = await openTcpProxy(url.host);
  onTestFinished(() => proxy.close());
  proxy.cut();
  url.host = proxy.address;
  const env = { REDIS_URL: url.href };
  const { exitCode, out } = await openOps(stores, env, 80, () => proxy.mend())('status', '--watch');
  const [first = '', second = ''] = out.split(/^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC\n/m).slice(1);
  expect(first).toMatch(/Redis does not answer/);
  expect(second).toMatch(/^\nNothing is wrong\./);
  expect(exitCode).toBe(0);
});

test('--watch gives a program one line a look', async () => {
  await stores.redisStatus.beat(worker);
  const { out } = await openOps(stores)('status', '--watch', '--json');
  const looks = out.trimEnd().split('\n');
  expect(looks.map((look): unknown => JSON.parse(look))).toEqual(
    Array.from({ length: 2 }, () => expect.objectContaining({ wrong: [], isTemporalUp: true })),
  );
});

test.each([
  [true, '\u001B[?1049h\u001B[?25l\u001B[H\u001B[2Jone\n\u001B[H\u001B[2Jtwo\n\u001B[?25h\u001B[?1049ltwo\n'],
  [false, 'one\ntwo\n'],
])(
  'a screen is shown in place on a terminal (%s), which a signal gives back as it was',
  (isTTY, expected) => {
    let written = '';
    const output = new Writable({ write: (chunk, _, done) => done(void (written += String(chunk))) });
    const before = process.listenerCount('SIGINT');
    const screen = openScreen(Object.assign(output, { isTTY }));
    screen.show('one');
    screen.show('two');
    expect(screen.stopped.aborted).toBe(false);
    // As Node calls it on a Ctrl-C.
    process.emit('SIGINT');
    expect(screen.stopped.aborted).toBe(true);
    screen.close();
    expect(written).toBe(expected);
    expect(process.listenerCount('SIGINT')).toBe(before);
  },
);

test('a screen ends when its reader goes', () => {
  const output = new Writable({ write: (_chunk, _, done) => done() });
  const screen = openScreen(Object.assign(output, { isTTY: false }));
  output.emit('error', new Error('EPIPE'));
  expect(screen.stopped.aborted).toBe(true);
  screen.close();
});
