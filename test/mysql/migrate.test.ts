/** The schema on empty, half-made and older databases, made by one process or several at once. */

import { ulid } from 'ulidx';
import { beforeAll, expect, inject, test } from 'vitest';
import { createMysqlPool, lockName, modify, type Pool } from '../../src/mysql/connection.ts';
import { migrate } from '../../src/mysql/migrate.ts';
import { select, selectOne } from '../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../support/stores.ts';

const ALL = ['0001-schema'];

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});

/** Several processes' pools on an empty database. */
async function withEmptyDatabase(use: (pools: [Pool, Pool]) => Promise<void>): Promise<void> {
  const name = `holdfast_${ulid().toLowerCase()}`;
  await stores.pool.query(`CREATE DATABASE ${name} CHARACTER SET utf8mb4`);
  const url = new URL(inject('mysqlUrl'));
  url.pathname = `/${name}`;
  const pools: [Pool, Pool] = [createMysqlPool(url.href), createMysqlPool(url.href)];
  try {
    await use(pools);
  } finally {
    await Promise.all(pools.map((pool) => pool.end()));
    await stores.pool.query(`DROP DATABASE ${name}`);
  }
}

test('a schema that is up to date is left alone', async () => {
  expect(await migrate(stores.pool, silent)).toEqual([]);
});

test('of two processes that start at once one migrates and the other waits for it', async () => {
  await withEmptyDatabase(async (pools) => {
    const applied = await Promise.all(pools.map((pool) => migrate(pool, silent)));
    expect(applied.flat()).toEqual(ALL);
    const { tables } = await selectOne(
      pools[0],
      'SELECT COUNT(*) AS tables FROM information_schema.tables WHERE table_schema = DATABASE()',
    );
    expect(tables).toBe(29);
  });
});

test('a migration that died half-way is finished by the next run', async () => {
  await withEmptyDatabase(async ([pool]) => {
    await migrate(pool, silent);
    await modify(pool, 'DELETE FROM migrations');
    await pool.query('DROP TABLE audit_log');
    expect(await migrate(pool, silent)).toEqual(ALL);
    expect(await selectOne(pool, 'SELECT COUNT(*) AS entries FROM audit_log')).toEqual({ entries: 0 });
  });
});

test('columns that a migration had added before it died are left, and the missing ones are added', async () => {
  const step = {
    name: '0002-gifts',
    statements: [
      'ALTER TABLE orders ADD COLUMN gift BOOLEAN NOT NULL DEFAULT FALSE',
      'ALTER TABLE orders ADD COLUMN gift_note VARCHAR(200) NULL, ADD KEY orders_of_gift (gift)',
      'ALTER TABLE orders DROP KEY orders_of_reference',
    ],
  };
  await withEmptyDatabase(async ([pool]) => {
    await migrate(pool, silent);
    const [added, , dropped] = step.statements;
    for (const statement of [added, dropped]) await pool.query(String(statement));
    const schema = { name: '0001-schema', statements: [] };
    expect(await migrate(pool, silent, [schema, step])).toEqual(['0002-gifts']);
    const gifts = 'SELECT COUNT(gift_note) AS notes FROM orders FORCE INDEX (orders_of_gift) WHERE gift';
    expect(await selectOne(pool, gifts)).toEqual({ notes: 0 });
  });
});

test('a statement that the server refuses is an error, and its migration is not done', async () => {
  await withEmptyDatabase(async ([pool]) => {
    const wrong = [{ name: '0001-wrong', statements: ['ALTER TABLE absent ADD COLUMN gift BOOLEAN'] }];
    await expect(migrate(pool, silent, wrong)).rejects.toThrow('absent');
    expect(await migrate(pool, silent)).toEqual(ALL);
  });
});

test('a migration that failed holds up no other process', async () => {
  const url = new URL(inject('mysqlUrl'));
  url.pathname = '/information_schema';
  const readOnly = createMysqlPool(url.href);
  try {
    await expect(migrate(readOnly, silent)).rejects.toThrow();
    const lock = lockName('migrations', "'information_schema'");
    const [one] = await select(
      stores.pool,
      `SELECT GET_LOCK(${lock}, 60) AS acquired, RELEASE_LOCK(${lock}) AS released`,
    );
    expect(one).toEqual({ acquired: 1, released: 1 });
  } finally {
    await readOnly.end();
  }
});

test('a migration waits for none of another database on the same server', async () => {
  await withEmptyDatabase(async ([pool]) => {
    const elsewhere = await stores.pool.getConnection();
    const lock = lockName('migrations');
    try {
      // The second is the name without a database, by which one deployment kept the others waiting.
      await elsewhere.query(`SELECT GET_LOCK(${lock}, 0), GET_LOCK('holdfast_migrations', 0)`);
      expect(await migrate(pool, silent)).toEqual(ALL);
    } finally {
      elsewhere.destroy();
    }
  });
});
