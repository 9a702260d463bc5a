/**
 * Whether Redis and MySQL belong together. A prefix of its own is a second Redis here: it has other keys, and
 * is as empty as another server would be.
 */

import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { STORES_FORMAT, WrongDeploymentError } from '../../src/deployment.ts';
import { raise } from '../../src/events/marks.redis.ts';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import { connectRedis } from '../../src/redis/connection.ts';
import { DEPLOYMENT_KEY } from '../../src/redis/keys.ts';
import { assertKnownFormat, createDeploymentStores } from '../../src/stores/deployment.ts';
import { buildSale } from '../support/factories.ts';
import { ownRedisUrl } from '../support/own-redis.ts';
import { selectOne } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';
import { waitFor } from '../support/wait.ts';

let stores: TestStores;
let others: TestStores;
beforeAll(async () => {
  [stores, others] = [await openTestStores(), await openTestStores()];
});
afterAll(async () => {
  await stores.close();
  await others.close();
});
beforeEach(async () => {
  await stores.redis.flushall();
  for (const { pool } of [stores, others])
    await pool.query('UPDATE deployment SET redis_id = NULL, redis_seen_at = NULL, format = ?', [
      STORES_FORMAT,
    ]);
});

interface ProcessOptions {
  of?: TestStores;
  keyPrefix?: string;
  watchMs?: number;
}

/** One of the deployment's processes, with a connection of its own to Redis. */
async function openProcess({ of = stores, keyPrefix, watchMs = 3_600_000 }: ProcessOptions = {}) {
  const redis = await connectRedis([await ownRedisUrl()], silent, { keyPrefix });
  onTestFinished(() => redis.disconnect());
  return createDeploymentStores({ redis, pool: of.pool, name: 'holdfast', log: silent }, watchMs);
}

/** As if the last process that confirmed the noted Redis had done so a minute ago. */
async function letTimePass(): Promise<void> {
  await stores.pool.query('UPDATE deployment SET redis_seen_at = redis_seen_at - INTERVAL 1 MINUTE');
}

/** Until MySQL's clock, whose times have milliseconds, tells a later one than now. */
async function passMillisecond(): Promise<void> {
  const readClock = async () => (await selectOne(stores.pool, 'SELECT UNIX_TIMESTAMP(NOW(3)) AS at'))['at'];
  const before = await readClock();
  await waitFor("MySQL's clock to go on", async () => (await readClock()) !== before);
}

const readMark = async (): Promise<unknown> => JSON.parse((await stores.redis.get(DEPLOYMENT_KEY)) ?? 'null');
const notedRedis = async () => (await selectOne(stores.pool, 'SELECT redis_id FROM deployment'))['redis_id'];

test('an empty Redis is taken: it gets the id of the schema, and MySQL notes its own', async () => {
  const process = await openProcess();

  expect(await process.look()).toBe('ours');

  const { id, name } = process.known();
  expect(id).toMatch(/^[0-9a-f]{24}$/);
  expect(await readMark()).toEqual({
    deploymentId: id,
    name,
    format: STORES_FORMAT,
    redisId: await notedRedis(),
  });
  expect(await selectOne(stores.pool, 'SELECT name FROM deployment')).toEqual({ name: 'holdfast' });
});

test('of many processes that come to an empty Redis at once all go on, with one mark', async () => {
  const processes = await Promise.all(Array.from({ length: 8 }, () => openProcess()));

  await Promise.all(processes.map((process) => process.join()));

  expect(await readMark()).toMatchObject({ redisId: await notedRedis() });
});

test('the Redis of another deployment of the same name is refused, and the settings are named', async () => {
  await (await openProcess()).join();
  const theirs = await openProcess({ of: others });

  await expect(theirs.look()).rejects.toThrow(/another deployment.*REDIS_KEY_PREFIX.*REDIS_URL/);
  await expect(theirs.check()).rejects.toThrow(WrongDeploymentError);

  const beside = await openProcess({ of: others, keyPrefix: 'theirs' });
  expect(await beside.look()).toBe('ours');
});

test('a process that runs ends when its Redis becomes that of another deployment', async () => {
  const process = await openProcess();
  await process.join();
  const mark = { deploymentId: '5e77', name: 'holdfast', format: STORES_FORMAT, redisId: 'a' };
  await stores.redis.set(DEPLOYMENT_KEY, JSON.stringify(mark));

  await expect(process.keep(new AbortController().signal)).rejects.toThrow(WrongDeploymentError);
});

test('a process that runs ends when its MySQL becomes that of another deployment', async () => {
  const { id } = await selectOne(stores.pool, 'SELECT deployment_id AS id FROM deployment');
  const process = await openProcess();
  await process.join();
  await stores.redis.del(DEPLOYMENT_KEY);
  await stores.pool.query("UPDATE deployment SET deployment_id = '5e77'");
  onTestFinished(async () => {
    await stores.pool.query('UPDATE deployment SET deployment_id = ?', [id]);
  });

  await expect(process.look()).rejects.toThrow(/MYSQL_URL/);
});

test('a second, empty Redis is refused while a process still sees the first', async () => {
  const first = await openProcess();
  await first.join();
  await letTimePass();
  const second = await openProcess({ keyPrefix: 'second' });
  expect(await second.look()).toBe('watching');

  // What is read in the very millisecond of the look may have been read before it.
  await passMillisecond();
  expect(await first.look()).toBe('ours');

  await expect(second.look()).rejects.toThrow(/another Redis.*in use.*REDIS_URL/);
  await expect(second.check()).rejects.toThrow(/in use/);
  expect(await stores.redis.keys('second:*')).toEqual([]);
});

test('a process that read the first Redis before the second was looked at does not speak for it', async () => {
  await (await openProcess()).join();
  await letTimePass();
  const second = await openProcess({ keyPrefix: 'second' });
  expect(await second.look()).toBe('watching');

  // A frozen process thaws, and writes what it saw before.
  await stores.pool.query('UPDATE deployment SET redis_seen_at = redis_seen_at + INTERVAL 30 SECOND');

  expect(await second.look()).toBe('watching');
});

test('a second, empty Redis is taken when the first is gone, and is then the one that is guarded', async () => {
  const first = await openProcess();
  await first.join();
  const second = await openProcess({ keyPrefix: 'second', watchMs: 0 });
  const before = await notedRedis();

  expect([await second.look(), await second.look()]).toEqual(['watching', 'ours']);

  expect(await notedRedis()).not.toBe(before);
  expect(await first.look()).toBe('watching');
  // What was seen in the very millisecond of the first look says nothing.
  await waitFor('the first to be refused', async () => {
    await letTimePass();
    expect(await second.look()).toBe('ours');
    return first.look().then(
      () => false,
      (error: unknown) => String(error).includes('in use'),
    );
  });
});

test('of two empty Redises one is taken, also by processes that found the first gone at once', async () => {
  await (await openProcess()).join();
  await stores.redis.del(DEPLOYMENT_KEY);
  const [left, right] = [
    await openProcess({ keyPrefix: 'left', watchMs: 0 }),
    await openProcess({ keyPrefix: 'right', watchMs: 0 }),
  ];
  await Promise.all([left.look(), right.look()]);

  const looks = await Promise.all([left.look(), right.look()]);

  expect(looks.toSorted()).toEqual(['ours', 'watching']);
});

test('a Redis that has lost its data is marked again by the processes that run', async () => {
  const [one, two] = [await openProcess({ watchMs: 0 }), await openProcess({ watchMs: 0 })];
  await Promise.all([one.join(), two.join()]);
  const before = await readMark();
  await stores.redis.flushall();

  await Promise.all([one.join(), two.join()]);

  expect(await readMark()).toMatchObject({ deploymentId: one.known().id, redisId: await notedRedis() });
  expect(await readMark()).not.toEqual(before);
});

test('a MySQL that was restored elsewhere, as it was when another Redis was noted, starts on an empty one', async () => {
  await (await openProcess()).join();
  const { deploymentId, redisId } = await selectOne(
    stores.pool,
    'SELECT deployment_id AS deploymentId, redis_id AS redisId FROM deployment',
  );
  const kept = await selectOne(others.pool, 'SELECT deployment_id AS id FROM deployment');
  const restore = 'UPDATE deployment SET deployment_id = ?, redis_id = ?, redis_seen_at = ?';
  await others.pool.query(restore, [deploymentId, redisId, new Date(0)]);
  onTestFinished(async () => {
    await others.pool.query('UPDATE deployment SET deployment_id = ?', [kept['id']]);
  });

  // Where its Redis is still there, it is the one that is noted.
  expect(await (await openProcess({ of: others })).look()).toBe('ours');
  await (await openProcess({ of: others, keyPrefix: 'elsewhere', watchMs: 0 })).join();
});

const readFeedAndEpochs = async () =>
  selectOne(
    stores.pool,
    `SELECT (SELECT last_sequence FROM event_dispatch) AS last, MIN(epoch) AS lowest,
       (SELECT COUNT(*) FROM audit_log WHERE action = 'numbers_left_out') AS leftOut FROM sales`,
  );

/** A process that finds another Redis, after all others and their Redis are gone. */
async function startElsewhere(keyPrefix: string): Promise<void> {
  const process = await openProcess({ keyPrefix, watchMs: 0 });
  await process.join();
  // Once it is taken, others and later looks find nothing new.
  await (await openProcess({ keyPrefix, watchMs: 0 })).join();
}

test('what Redis alone would tell of a loss of MySQL is gone with it: numbers and epochs go on far above', async () => {
  await stores.openSale(buildSale());
  await stores.sales.create(buildSale());
  await (await openProcess()).join();
  const before = await readFeedAndEpochs();

  await startElsewhere('gone');

  expect(await readFeedAndEpochs()).toEqual({
    last: Number(before['last']) + 1_000_000_000,
    lowest: Number(before['lowest']) + 1_000,
    leftOut: Number(before['leftOut']) + 1,
  });
  expect(
    await selectOne(
      stores.pool,
      "SELECT data FROM shop_events WHERE type = 'feed.gap' ORDER BY event_id DESC LIMIT 1",
    ),
  ).toEqual({
    data: JSON.stringify({ gap: { after: before['last'], upTo: Number(before['last']) + 1_000_000_000 } }),
  });
});

test('where a worker that runs has marked the feed in the new Redis, numbers and epochs go on as they were', async () => {
  await stores.openSale(buildSale());
  await (await openProcess()).join();
  const before = await readFeedAndEpochs();
  const redis = await connectRedis([await ownRedisUrl()], silent, { keyPrefix: 'marked' });
  onTestFinished(() => redis.disconnect());
  await raise(redis, (await stores.eventRows.readFeed()).feedId, 1);

  await startElsewhere('marked');

  expect(await readFeedAndEpochs()).toEqual(before);
});

test('while MySQL is away Redis tells which deployment it is, and nothing is compared', async () => {
  const process = await openProcess();
  await process.join();
  const redis = await connectRedis([await ownRedisUrl()], silent);
  onTestFinished(() => redis.disconnect());
  const pool = createMysqlPool('mysql://holdfast:holdfast@127.0.0.1:1/none');
  onTestFinished(() => pool.end());
  const started = createDeploymentStores({ redis, pool, name: 'holdfast', log: silent });

  await expect(started.look()).rejects.not.toThrow(WrongDeploymentError);

  expect(started.known()).toEqual(process.known());
});

test('stores of another format are refused by each process, with what to do', async () => {
  const process = await openProcess();
  await stores.pool.query('UPDATE deployment SET format = 1');
  await expect(process.look()).rejects.toThrow(
    new RegExp(`MySQL has the format 1 .* works with ${STORES_FORMAT}\\. Start the release that made it, or`),
  );
  await expect(assertKnownFormat(stores.pool)).rejects.toThrow(WrongDeploymentError);

  await stores.pool.query('UPDATE deployment SET format = ?', [STORES_FORMAT]);
  await process.join();
  const text = (await stores.redis.get(DEPLOYMENT_KEY)) ?? '';
  await stores.redis.set(DEPLOYMENT_KEY, text.replace(`"format":${STORES_FORMAT}`, '"format":1'));
  await expect((await openProcess()).look()).rejects.toThrow(/Redis has the format 1 .* empty Redis/);
});

test('a Redis with sales and no mark is taken where MySQL knows them all, and refused where it does not', async () => {
  const { saleId } = await stores.openSale(buildSale());

  const theirs = await openProcess({ of: others });
  await expect(theirs.look()).rejects.toThrow(new RegExp(`does not know, ${saleId}.*REDIS_KEY_PREFIX`));

  expect(await (await openProcess()).look()).toBe('ours');
});
