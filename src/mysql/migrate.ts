/** Brings the schema of MySQL up to date. Several processes may do so at once. */

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Logger } from 'pino';
import { Umzug } from 'umzug';
import { z } from 'zod';
import {
  lockName,
  modify,
  selectRows,
  type Pool,
  type PoolConnection,
  isDefinedAlready,
  isDroppedAlready,
} from './connection.ts';

/** A change of the schema, which suits the release before: that one runs beside it. */
interface SchemaStep {
  name: string;
  /** Each may be repeated: DDL commits by itself, and a run may die half-way. */
  statements: readonly string[];
}

/** What is released is never edited; a change of it is a step of its own, at the end. */
const STEPS: readonly SchemaStep[] = [{ name: '0001-schema', statements: readStatements() }];

const LOCK_NAME = lockName('migrations');
/** An empty schema is migrated within a second. A long migration is to be run beforehand, by itself. */
const LOCK_WAIT_SECONDS = 60;

/** @returns the names of the steps that were applied now */
export async function migrate(pool: Pool, log: Logger, steps = STEPS): Promise<string[]> {
  // The lock belongs to the connection, so it is released when this process dies.
  const connection = await pool.getConnection();
  try {
    const row = z.object({ acquired: z.literal(1) });
    await selectRows(connection, row, `SELECT GET_LOCK(${LOCK_NAME}, ?) AS acquired`, [LOCK_WAIT_SECONDS]);
    const applied = await createUmzug(connection, log, steps).up();
    await connection.query(`SELECT RELEASE_LOCK(${LOCK_NAME})`);
    connection.release();
    return applied.map((migration) => migration.name);
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/**
 * Ignores the error of a column or key that an earlier run added or dropped: MySQL 8 has no ADD COLUMN IF NOT
 * EXISTS.
 */
async function define(connection: PoolConnection, statement: string): Promise<void> {
  try {
    await connection.query(statement);
  } catch (error) {
    if (!isDefinedAlready(error) && !isDroppedAlready(error)) throw error;
  }
}

function createUmzug(connection: PoolConnection, log: Logger, steps: readonly SchemaStep[]) {
  return new Umzug({
    migrations: steps.map(({ name, statements }) => ({
      name,
      up: async () => {
        for (const statement of statements) await define(connection, statement);
      },
    })),
    storage: {
      async logMigration({ name }) {
        await modify(connection, 'INSERT INTO migrations (name) VALUES (?)', [name]);
      },
      async unlogMigration({ name }) {
        await modify(connection, 'DELETE FROM migrations WHERE name = ?', [name]);
      },
      async executed() {
        await connection.query(
          `CREATE TABLE IF NOT EXISTS migrations (name VARCHAR(100) NOT NULL PRIMARY KEY,
           applied_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3)) ENGINE = InnoDB`,
        );
        const rows = await selectRows(
          connection,
          z.object({ name: z.string() }),
          'SELECT name FROM migrations',
        );
        return rows.map((row) => row.name);
      },
    },
    logger: {
      info: (message) => log.info(message),
      warn: (message) => log.warn(message),
      error: (message) => log.error(message),
      debug: (message) => log.debug(message),
    },
  });
}

/** A statement of schema.sql ends with a semicolon at the end of its line, and no comment does. */
function readStatements(): string[] {
  const text = readFileSync(createRequire(import.meta.url).resolve('#schema'), 'utf8');
  return text.split(/;\n/).filter((statement) => statement.trim() !== '');
}
