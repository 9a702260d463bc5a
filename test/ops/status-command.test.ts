/** `ops status` says what is wrong, with each part away in turn, and never waits for one. */

import { afterEach, beforeEach, expect, test } from 'vitest';
import { buildReserveRequest, buildSale } from '../support/factories.ts';
import { openOps } from '../support/ops.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeEach(async () => {
  stores = await openTestStores();
});
afterEach(() => stores.close());

const NOWHERE = '127.0.0.1:1';
const worker = {
  workerId: 'a',
  host: 'shop-1',
  pid: 7,
  build: 'v1',
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
