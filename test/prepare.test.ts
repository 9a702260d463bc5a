/** The process that runs before the others: what an operator reads when a store is not as it must be. */

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { ulid } from 'ulidx';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { repoDir } from '../stack/install/repo-dir.ts';
import { ownRedisUrl } from './support/own-redis.ts';
import { startPrivateRedis } from './support/private-redis.ts';
import { openTestStores, type TestStores } from './support/stores.ts';

const PASSWORD = 'not-for-the-log';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

interface Ended {
  exitCode: number | string;
  stdout: string;
  stderr: string;
}

/** As compose runs it, on the stores of this file unless the environment says otherwise. */
async function prepare(env: Record<string, string>): Promise<Ended> {
  const script = join(repoDir, 'dist', 'src', 'prepare.js');
  const given = { REDIS_URL: await ownRedisUrl(), MYSQL_URL: stores.config.MYSQL_URL, ...env };
  return new Promise((resolve) => {
    execFile(process.execPath, [script], { env: given }, (error, stdout, stderr) => {
      resolve({ exitCode: error?.code ?? 0, stdout, stderr });
    });
  });
}

/** Without a table. */
async function createDatabase(): Promise<URL> {
  const database = `holdfast_${ulid().toLowerCase()}`;
  await stores.pool.query(`CREATE DATABASE ${database}`);
  onTestFinished(async () => void (await stores.pool.query(`DROP DATABASE ${database}`)));
  const url = new URL(stores.config.MYSQL_URL);
  url.pathname = `/${database}`;
  return url;
}

/** Nothing in standard output, one line in standard error, no stack and no password. */
function expectOneLine({ exitCode, stdout, stderr }: Ended, line: RegExp): void {
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
  expect(stderr).toMatch(line);
  expect(stderr.trimEnd().split('\n')).toHaveLength(1);
  expect(stderr).not.toMatch(/^ +at |node:internal/m);
  expect(stderr).not.toContain(PASSWORD);
}

test('with its stores it migrates, and a second time finds nothing to do', async () => {
  const url = await createDatabase();

  const first = await prepare({ MYSQL_URL: url.href });
  const second = await prepare({ MYSQL_URL: url.href });

  expect(first).toMatchObject({ exitCode: 0, stderr: '' });
  expect(first.stdout).toContain('"msg":"migrated"');
  expect(second).toMatchObject({ exitCode: 0, stderr: '' });
  expect(second.stdout).toContain('the schema is up to date');
});

test('settings that are missing are listed, a line each, without a stack', async () => {
  const { exitCode, stdout, stderr } = await prepare({ MYSQL_URL: '', REDIS_URL: 'localhost' });

  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: '' });
  expect(stderr).toMatch(/^The environment is not as it must be:\n( {2}(MYSQL|REDIS)_URL[^\n]*\n)+$/);
});

test('a Redis that does not answer is named in one line, and MySQL is left alone', async () => {
  const url = await createDatabase();

  const ended = await prepare({
    REDIS_URL: `redis://default:${PASSWORD}@127.0.0.1:1`,
    MYSQL_URL: url.href,
  });

  expectOneLine(ended, /^Redis is not reachable at /);
  const [tables] = await stores.pool.query(`SHOW TABLES IN ${url.pathname.slice(1)}`);
  expect(tables).toEqual([]);
});

test('a Redis that may evict accepted orders is refused', async () => {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const own = await openTestStores({ REDIS_URL: [redis.url] });
  await own.redis.config('SET', 'maxmemory-policy', 'allkeys-lru');

  expectOneLine(await prepare({ REDIS_URL: redis.url }), /allkeys-lru.*noeviction/);
});

test('the Redis of another deployment is refused, and the settings that mend it are named', async () => {
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const [ours, theirs] = [await createDatabase(), await createDatabase()];
  const prepared = await prepare({ REDIS_URL: redis.url, MYSQL_URL: ours.href });
  expect(prepared).toMatchObject({ exitCode: 0, stderr: '' });

  const refused = await prepare({ REDIS_URL: redis.url, MYSQL_URL: theirs.href });
  const beside = { REDIS_URL: redis.url, MYSQL_URL: theirs.href, REDIS_KEY_PREFIX: 'theirs' };

  expect(refused).toMatchObject({ exitCode: 1 });
  expect(refused.stderr.trimEnd()).toMatch(/^.*another deployment.*REDIS_KEY_PREFIX.*REDIS_URL.*$/);
  expect(await prepare(beside)).toMatchObject({ exitCode: 0, stderr: '' });
});

test('a database of another format is refused, with what to do, and is left as it is', async () => {
  const url = await createDatabase();
  const redis = await startPrivateRedis();
  onTestFinished(() => redis.stop());
  const env = { REDIS_URL: redis.url, MYSQL_URL: url.href };
  await prepare(env);
  const database = url.pathname.slice(1);
  await stores.pool.query(`UPDATE ${database}.deployment SET format = 1`);
  await stores.pool.query(`DELETE FROM ${database}.migrations WHERE name = '0001-schema'`);

  expectOneLine(await prepare(env), /^MySQL has the format 1 .*Start the release that made it/);

  const [rows] = await stores.pool.query(
    `SELECT name FROM ${database}.migrations WHERE name = '0001-schema'`,
  );
  expect(rows).toEqual([]);
});

test('a MySQL that does not answer, or does not let us in, is named in one line', async () => {
  const away = `mysql://holdfast:${PASSWORD}@127.0.0.1:1/none`;
  expectOneLine(await prepare({ MYSQL_URL: away }), /^MySQL does not answer: .*ECONNREFUSED/);

  const url = new URL(stores.config.MYSQL_URL);
  url.username = 'stranger';
  url.password = PASSWORD;
  expectOneLine(await prepare({ MYSQL_URL: url.href }), /^MySQL does not answer: .*denied/i);
});
