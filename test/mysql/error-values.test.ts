/** An error of MySQL tells what failed and never with which values, wherever it goes. */

import { inspect } from 'node:util';
import { defaultFailureConverter, defaultPayloadConverter } from '@temporalio/common';
import { beforeAll, expect, test } from 'vitest';
import { z } from 'zod';
import { Problem, unavailable } from '../../src/api/http/problem.ts';
import { inTransaction, modify, selectRows } from '../../src/mysql/connection.ts';
import { openTestLog } from '../api/test-log.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

const SECRET = 'Ada\'s $& "agent"';
const INSERT = 'INSERT INTO visitors (visitor_id, agent, age) VALUES (?)';

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
  const { pool } = stores;
  await pool.query(
    'CREATE TABLE visitors (visitor_id INT PRIMARY KEY, agent VARCHAR(64) UNIQUE, age TINYINT UNSIGNED)',
  );
  await modify(pool, INSERT, [[1, SECRET, 30]]);
  await pool.query(
    `CREATE TRIGGER refuse_the_old BEFORE INSERT ON visitors FOR EACH ROW
     BEGIN IF NEW.age = 99 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'too old'; END IF; END`,
  );
});

async function errorOf(work: () => Promise<unknown>): Promise<unknown> {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error('it succeeded');
}

const insert = (id: number, agent: unknown, age: unknown) => modify(stores.pool, INSERT, [[id, agent, age]]);

/** The first connection keeps the row until the second has waited in vain. */
async function insertWhileLocked(): Promise<unknown> {
  const holder = await stores.pool.getConnection();
  try {
    await holder.beginTransaction();
    await modify(holder, 'UPDATE visitors SET age = 31 WHERE agent = ?', [SECRET]);
    const waiter = await stores.pool.getConnection();
    try {
      await waiter.query('SET SESSION innodb_lock_wait_timeout = 1');
      return await modify(waiter, 'UPDATE visitors SET age = 32 WHERE agent = ?', [SECRET]);
    } finally {
      waiter.destroy();
    }
  } finally {
    await holder.rollback();
    holder.release();
  }
}

const insertReadOnly = () =>
  inTransaction(stores.pool, async (connection) => {
    await connection.rollback();
    await connection.query('START TRANSACTION READ ONLY');
    return modify(connection, INSERT, [[5, SECRET, 1]]);
  });

test.each<[string, () => Promise<unknown>, object]>([
  ['is there already', () => insert(2, SECRET, 30), { code: 'ER_DUP_ENTRY', errno: 1062 }],
  ['does not fit', () => insert(3, SECRET.repeat(20), 30), { code: 'ER_DATA_TOO_LONG' }],
  ['has the wrong form', () => insert(3, 'x', SECRET), { sqlState: expect.any(String) }],
  ['is refused', () => insert(4, SECRET, 99), { errno: 1644 }],
  ['meets a transaction that only reads', insertReadOnly, { errno: 1792 }],
  ['meets a lock', insertWhileLocked, { errno: 1205 }],
  [
    'is read by a wrong statement',
    () => selectRows(stores.pool, z.object({}), 'SELECT nothing FROM visitors WHERE agent = ?', [SECRET]),
    { errno: 1054 },
  ],
])('a value that %s is in no part of the error', async (_, work, shown) => {
  const error = await errorOf(work);
  const { log, lines } = openTestLog();
  log.warn({ err: error }, 'failed');
  log.error({ err: unavailable('status_unavailable', error) }, 'request failed');
  const failure = defaultFailureConverter.errorToFailure(error, defaultPayloadConverter);

  const everything = [inspect(error, { depth: 9 }), JSON.stringify(lines()), JSON.stringify(failure)];
  for (const text of everything) {
    expect(text).not.toContain('Ada');
    expect(text).not.toContain('$&');
  }
  // What is needed to find the fault stays, once.
  expect(error).toMatchObject({ ...shown, sql: expect.stringMatching(/visitors .*\?/s) });
  const [own, caused] = z.array(z.object({ err: z.looseObject({}) })).parse(lines());
  expect(own?.err).toMatchObject(shown);
  expect(caused?.err).toMatchObject({ cause: shown });
  expect(JSON.stringify(caused).split('visitors (').length).toBeLessThanOrEqual(2);
});

test('an error about a value names its column', async () => {
  const error = await errorOf(() => insert(3, SECRET.repeat(20), 30));
  expect(String(error)).toContain("for column 'agent' at row 1");
});

test('what an answer tells its caller is in no line about it', () => {
  const { log, lines } = openTestLog();
  log.error(
    {
      err: new Problem('sold_out', {
        extra: { sku: 'a secret', available: 0, held: 0, openOrders: [] },
      }),
    },
    'failed',
  );

  expect(JSON.stringify(lines())).not.toContain('a secret');
});
