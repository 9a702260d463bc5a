/** Brings the schema of MySQL up to date. Several processes may do so at once. */

import type { Logger } from 'pino';
import { Umzug } from 'umzug';
import { z } from 'zod';
import { modify, selectRows, type Pool, type PoolConnection } from '../connection.ts';
import { isDefinedAlready, isDroppedAlready, isUnknownColumn } from '../errors.ts';
import { initial } from './0001-initial.ts';
import { moneyBack } from './0002-money-back.ts';
import { signedOrder } from './0003-signed-order.ts';
import { urgentOrders } from './0004-urgent-orders.ts';
import { parkedWork } from './0005-parked-work.ts';
import { rebuild } from './0006-rebuild.ts';
import { temporalNamespaces } from './0007-temporal-namespaces.ts';
import { sessionExpiry } from './0008-session-expiry.ts';
import { reconcile } from './0009-reconcile.ts';
import { plans } from './0010-plans.ts';
import { opaqueIds } from './0011-opaque-ids.ts';
import { saleChanges } from './0012-sale-changes.ts';
import { shopData } from './0013-orders.ts';
import { events } from './0014-events.ts';
import { push } from './0015-push.ts';
import { aftersale } from './0016-aftersale.ts';
import { fees } from './0017-fees.ts';
import { eventWaits } from './0020-event-waits.ts';
import { reversalIds } from './0021-reversal-ids.ts';
import { lostOrders } from './0023-lost-orders.ts';
import { deployment } from './0024-deployment.ts';
import { saleLists } from './0025-sale-lists.ts';
import { changeIds } from './0026-change-ids.ts';
import { feedId } from './0027-feed-id.ts';
import { projectionDoubts } from './0029-projection-doubts.ts';
import { pushSchedule } from './0030-push-schedule.ts';
import { endings } from './0031-endings.ts';

const MIGRATIONS = [
  { name: '0001-initial', statements: initial },
  { name: '0002-money-back', statements: moneyBack },
  { name: '0003-signed-order', statements: signedOrder },
  { name: '0004-urgent-orders', statements: urgentOrders },
  { name: '0005-parked-work', statements: parkedWork },
  { name: '0006-rebuild', statements: rebuild },
  { name: '0007-temporal-namespaces', statements: temporalNamespaces },
  { name: '0008-session-expiry', statements: sessionExpiry },
  { name: '0009-reconcile', statements: reconcile },
  { name: '0010-plans', statements: plans },
  { name: '0011-opaque-ids', statements: opaqueIds },
  { name: '0012-sale-changes', statements: saleChanges },
  { name: '0013-orders', statements: shopData },
  { name: '0014-events', statements: events },
  { name: '0015-push', statements: push },
  { name: '0016-aftersale', statements: aftersale },
  { name: '0017-fees', statements: fees },
  { name: '0020-event-waits', statements: eventWaits },
  { name: '0021-reversal-ids', statements: reversalIds },
  { name: '0023-lost-orders', statements: lostOrders },
  { name: '0024-deployment', statements: deployment },
  { name: '0025-sale-lists', statements: saleLists },
  { name: '0026-change-ids', statements: changeIds },
  { name: '0027-feed-id', statements: feedId },
  { name: '0029-projection-doubts', statements: projectionDoubts },
  { name: '0030-push-schedule', statements: pushSchedule },
  { name: '0031-endings', statements: endings },
];

/** A lock's name is the server's, and two deployments may have a database each on one. */
const LOCK_NAME = `CONCAT('holdfast_migrations_', MD5(DATABASE()))`;
/** An empty schema is migrated within a second. A long migration is to be run beforehand, by itself. */
const LOCK_WAIT_SECONDS = 60;

/** @returns the names of the migrations that were applied now */
export async function migrate(pool: Pool, log: Logger): Promise<string[]> {
  // The lock belongs to the connection, so it is released when this process dies.
  const connection = await pool.getConnection();
  try {
    const row = z.object({ acquired: z.literal(1) });
    await selectRows(connection, row, `SELECT GET_LOCK(${LOCK_NAME}, ?) AS acquired`, [LOCK_WAIT_SECONDS]);
    const applied = await createUmzug(connection, log).up();
    await connection.query(`SELECT RELEASE_LOCK(${LOCK_NAME})`);
    connection.release();
    return applied.map((migration) => migration.name);
  } catch (error) {
    connection.destroy();
    throw error;
  }
}

/**
 * Ignores the error of a column or key that an earlier run defined, renamed or dropped: MySQL 8 has no
 * ADD COLUMN IF NOT EXISTS.
 */
async function define(connection: PoolConnection, statement: string): Promise<void> {
  try {
    await connection.query(statement);
  } catch (error) {
    const isRenamed = /\bRENAME COLUMN\b/.test(statement) && isUnknownColumn(error);
    if (!isDefinedAlready(error) && !isDroppedAlready(error) && !isRenamed) throw error;
  }
}

function createUmzug(connection: PoolConnection, log: Logger) {
  return new Umzug({
    migrations: MIGRATIONS.map(({ name, statements }) => ({
      name,
      up: async () => {
        // DDL commits by itself and a run may die half-way, so each statement must be repeatable.
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
