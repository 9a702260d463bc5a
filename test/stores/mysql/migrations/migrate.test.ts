/** Migrations on empty, half-migrated and older databases, by one process or several at once. */

import { readdirSync } from 'node:fs';
import { ulid } from 'ulidx';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { createMysqlPool, modify, type Pool } from '../../../../src/stores/mysql/connection.ts';
import { migrate } from '../../../../src/stores/mysql/migrations/migrate.ts';
import { select, selectOne } from '../../../support/rows.ts';
import { openTestStores, silent, type TestStores } from '../../../support/stores.ts';

const FOLDER = new URL('../../../../src/stores/mysql/migrations/', import.meta.url);
/** Every migration by its file. */
const ALL = readdirSync(FOLDER)
  .filter((file) => /^\d{4}-/.test(file))
  .map((file) => file.replace(/\.ts$/, ''))
  .toSorted();

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
});
afterAll(() => stores.close());

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
    expect(tables).toBe(25);
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
  await withEmptyDatabase(async ([pool]) => {
    await migrate(pool, silent);
    await modify(pool, `DELETE FROM migrations WHERE name = '0002-money-back'`);
    await pool.query('ALTER TABLE payments DROP KEY payments_due, DROP COLUMN engine_due_at');
    await pool.query('DROP TABLE reversals');
    expect(await migrate(pool, silent)).toEqual(['0002-money-back']);
    const due =
      'SELECT COUNT(*) AS payments FROM payments FORCE INDEX (payments_due) WHERE engine_due_at IS NULL';
    expect(await selectOne(pool, due)).toEqual({ payments: 0 });
    expect(await selectOne(pool, 'SELECT COUNT(*) AS reversals FROM reversals')).toEqual({ reversals: 0 });
  });
});

test('a column that a migration had renamed before it died is left, and one that never was is an error', async () => {
  await withEmptyDatabase(async ([pool]) => {
    await migrate(pool, silent);
    await modify(pool, `DELETE FROM migrations WHERE name = '0003-signed-order'`);
    await pool.query('ALTER TABLE payments RENAME COLUMN signed_order TO sealed_order');
    expect(await migrate(pool, silent)).toEqual(['0003-signed-order']);
    const renamed = `SELECT COUNT(*) AS found FROM information_schema.columns
       WHERE table_schema = DATABASE() AND column_name = 'signed_order'`;
    expect(await selectOne(pool, renamed)).toEqual({ found: 2 });

    await modify(pool, `DELETE FROM migrations WHERE name = '0002-money-back'`);
    await pool.query('ALTER TABLE payments DROP COLUMN updated_at');
    await expect(migrate(pool, silent)).rejects.toThrow('updated_at');
  });
});

test('money that an older schema had applied or wanted refunded is known as that', async () => {
  await withEmptyDatabase(async ([pool]) => {
    await migrate(pool, silent);
    await modify(pool, `DELETE FROM migrations WHERE name = '0002-money-back'`);
    for (const status of ['applied', 'refund_due', 'received']) {
      await modify(
        pool,
        `INSERT INTO payments (provider, provider_payment_id, order_no, amount, currency, status)
         VALUES ('sandbox', ?, 'an order', 1, 'EUR', ?)`,
        [status, status],
      );
    }
    await migrate(pool, silent);
    const marks = `SELECT status, applied_at = updated_at AS applied, engine_due_at <= NOW(3) AS due FROM payments
       ORDER BY payment_id`;
    expect(await select(pool, marks)).toEqual([
      { status: 'applied', applied: 1, due: null },
      { status: 'refund_due', applied: null, due: 1 },
      { status: 'received', applied: null, due: null },
    ]);
  });
});

test('changes of orders from before the feed are not in it, and later ones wait for their number', async () => {
  await withEmptyDatabase(async ([pool]) => {
    await migrate(pool, silent);
    await modify(pool, `DELETE FROM migrations WHERE name = '0014-events'`);
    await pool.query('ALTER TABLE order_events DROP KEY order_events_sequence, DROP COLUMN sequence');
    const insert = `INSERT INTO order_events (order_no, version, status, payment) VALUES ('o', ?, 'paid', 'applied')`;
    await modify(pool, insert, [1]);
    expect(await migrate(pool, silent)).toEqual(['0014-events']);
    await modify(pool, insert, [2]);
    const sequences = 'SELECT version, sequence FROM order_events ORDER BY version';
    expect(await select(pool, sequences)).toEqual([
      { version: 1, sequence: 0 },
      { version: 2, sequence: null },
    ]);
  });
});

test('a migration that failed holds up no other process', async () => {
  const url = new URL(inject('mysqlUrl'));
  url.pathname = '/information_schema';
  const readOnly = createMysqlPool(url.href);
  try {
    await expect(migrate(readOnly, silent)).rejects.toThrow();
    const lock = `CONCAT('holdfast_migrations_', MD5('information_schema'))`;
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
    const lock = `CONCAT('holdfast_migrations_', MD5(DATABASE()))`;
    try {
      // The second is the name without a database, by which one deployment kept the others waiting.
      await elsewhere.query(`SELECT GET_LOCK(${lock}, 0), GET_LOCK('holdfast_migrations', 0)`);
      expect(await migrate(pool, silent)).toEqual(ALL);
    } finally {
      elsewhere.destroy();
    }
  });
});
