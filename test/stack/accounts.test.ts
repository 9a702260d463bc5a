/** What the accounts of the processes may not do. That they may do what they must, all tests show. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { beforeAll, expect, test } from 'vitest';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { asProduct, MYSQL_RIGHTS } from '../../stack/servers/accounts.ts';
import { withRedis } from '../../stack/servers/redis.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

test.each([
  [['FLUSHALL'], /no permissions to run the 'flushall' command/],
  [['CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru'], /no permissions to run the 'config\|set' command/],
  [['KEYS', '*'], /no permissions to run the 'keys' command/],
  [['SHUTDOWN'], /no permissions to run the 'shutdown' command/],
  [['ACL', 'SETUSER', 'mallory', 'on'], /no permissions to run the 'acl\|setuser' command/],
  [['GET', 'another:application'], /no permissions to access/i],
  // By Redis 7.0, and by what came after.
  [['EVAL', "return redis.call('FLUSHALL')", '0'], /can't run this command|ACL failure in script/],
])('in Redis the account may not %j', async ([command = '', ...args], refusal) => {
  const url = asProduct(stores.config.REDIS_URL[0] ?? '');

  await expect(withRedis(url, (redis) => redis.call(command, ...args))).rejects.toThrow(refusal);
});

test.each([
  'DROP TABLE orders',
  'ALTER TABLE orders ADD COLUMN x INT',
  'TRUNCATE orders',
  'CREATE TABLE x (y INT)',
])('in MySQL the account may not %s', async (statement) => {
  const connection = await createConnection(asProduct(stores.config.MYSQL_URL));
  try {
    await expect(connection.query(statement)).rejects.toThrow('command denied');
  } finally {
    await connection.end();
  }
});

test('the compose file gives the account the same rights in MySQL', () => {
  const compose = readFileSync(join(repoDir, 'docker-compose.temporal.yml'), 'utf8');
  expect(compose).toContain(`GRANT ${MYSQL_RIGHTS} ON holdfast.* TO 'holdfast_app'@'%';`);
});
