/** A MySQL that loses commits: a copy of its data is put back while everything else goes on. */

import { ulid } from 'ulidx';
import { z } from 'zod';
import { createMysqlPool, selectRows } from '../../src/mysql/connection.ts';

/** `next`: what the next automatic number is. */
const tableRow = z.object({ name: z.string(), next: z.int().nullable() });

/**
 * Copies the database as of one moment.
 * @returns puts the copy back, as of one moment too, with the numbers that MySQL would give next
 */
export async function copyMysql(url: string): Promise<() => Promise<void>> {
  const pool = createMysqlPool(url);
  const own = new URL(url).pathname.slice(1);
  const copy = `holdfast_copy_${ulid().toLowerCase()}`;
  await pool.query(`CREATE DATABASE ${copy} CHARACTER SET utf8mb4`);
  const names = (await readTables()).map(({ name }) => name);
  for (const name of names) await pool.query(`CREATE TABLE ${copy}.${name} LIKE ${own}.${name}`);

  /** While the tables are locked no transaction of others is under way. */
  async function fill(to: string, from: string, tables: readonly z.infer<typeof tableRow>[]) {
    const connection = await pool.getConnection();
    try {
      const locks = names.map((name) => `${to}.${name} WRITE, ${from}.${name} READ`);
      await connection.query(`SET FOREIGN_KEY_CHECKS = 0`);
      await connection.query(`LOCK TABLES ${locks.join(', ')}`);
      for (const name of names) {
        await connection.query(`DELETE FROM ${to}.${name}`);
        await connection.query(`INSERT INTO ${to}.${name} SELECT * FROM ${from}.${name}`);
      }
      for (const { name, next } of tables)
        if (next !== null) await connection.query(`ALTER TABLE ${to}.${name} AUTO_INCREMENT = ${next}`);
      await connection.query('UNLOCK TABLES');
    } finally {
      connection.destroy();
    }
  }

  async function readTables() {
    return selectRows(
      pool,
      tableRow,
      `SELECT table_name AS name, auto_increment AS next FROM information_schema.tables
       WHERE table_schema = ? AND table_type = 'BASE TABLE'`,
      [own],
    );
  }

  await fill(copy, own, []);
  const tables = await readTables();
  return async () => {
    await fill(own, copy, tables);
    await pool.query(`DROP DATABASE ${copy}`);
    await pool.end();
  };
}
