/**
 * Shopify's design of 2026, accepting side: no Redis. MySQL has one row for each unit on sale; a purchase
 * claims one with `SELECT … FOR UPDATE SKIP LOCKED`, takes it, and inserts the order, all in one
 * transaction.
 *
 * Source: Shopify Engineering, "Scaling inventory reservations"
 * (shopify.engineering/scaling-inventory-reservations, 2026): one row a unit instead of a quantity, SKIP
 * LOCKED so that no purchase waits for another, READ COMMITTED, and short transactions, because the time
 * that a connection is held turned out to be what limits. Their refill of a pool of at most 1,000 rows an
 * item is left out: all units are there from the start.
 */

import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import type { OpenPeer, PeerOrder, PeerOutcome } from './peer.ts';

const ROWS_AN_INSERT = 5_000;
const DUPLICATE_KEY = 'ER_DUP_ENTRY';

const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS peer_units (
     sale_id VARCHAR(40) NOT NULL, sku VARCHAR(64) NOT NULL, unit_no INT NOT NULL,
     PRIMARY KEY (sale_id, sku, unit_no)
   ) ENGINE=InnoDB`,
  `CREATE TABLE IF NOT EXISTS peer_reservations (
     order_no VARCHAR(80) NOT NULL PRIMARY KEY, sale_id VARCHAR(40) NOT NULL, user_id VARCHAR(64) NOT NULL,
     idempotency_key VARCHAR(128) NOT NULL, items JSON NOT NULL, units JSON NOT NULL, total INT NOT NULL,
     currency CHAR(3) NOT NULL, reserved_at BIGINT NOT NULL, payment_window INT NOT NULL,
     ip VARCHAR(45) NOT NULL, user_agent VARCHAR(512) NOT NULL,
     UNIQUE KEY by_idempotency_key (sale_id, user_id, idempotency_key)
   ) ENGINE=InnoDB`,
];

export const openShopifyRows: OpenPeer = async ({ servers }) => {
  const pool = createMysqlPool(servers.mysqlUrl);
  for (const statement of SCHEMA) await pool.query(statement);
  return {
    async openSale(saleId, units) {
      for (let first = 0; first < units; first += ROWS_AN_INSERT) {
        const count = Math.min(ROWS_AN_INSERT, units - first);
        const values = Array.from({ length: count }, (_, i) => [saleId, 'unit', first + i]);
        await pool.query('INSERT INTO peer_units (sale_id, sku, unit_no) VALUES ?', [values]);
      }
    },

    accept: (order) => accept(pool, order),

    async count(saleId) {
      const count = async (sql: string): Promise<number> => {
        const [rows] = await pool.query<RowDataPacket[]>(sql, [saleId]);
        return Number(rows[0]?.['n']);
      };
      const handedOver = await count('SELECT COUNT(*) AS n FROM peer_reservations WHERE sale_id = ?');
      // A unit is gone when, and only when, an order names it.
      const taken = await count(
        'SELECT COALESCE(SUM(JSON_LENGTH(units)), 0) AS n FROM peer_reservations WHERE sale_id = ?',
      );
      return { taken, handedOver };
    },

    async clear() {
      for (const table of ['peer_units', 'peer_reservations']) await pool.query(`TRUNCATE TABLE ${table}`);
    },

    close: () => pool.end(),
  };
};

async function accept(pool: Pool, order: PeerOrder): Promise<PeerOutcome> {
  const connection = await pool.getConnection();
  try {
    await connection.query('START TRANSACTION');
    const units: number[] = [];
    for (const { sku, quantity } of order.items) {
      const [rows] = await connection.execute<RowDataPacket[]>(
        `SELECT unit_no FROM peer_units WHERE sale_id = ? AND sku = ? LIMIT ${quantity} FOR UPDATE SKIP LOCKED`,
        [order.saleId, sku],
      );
      if (rows.length < quantity) {
        await connection.query('ROLLBACK');
        return { kind: 'sold-out' };
      }
      const claimed = rows.map((row) => Number(row['unit_no']));
      await connection.query<ResultSetHeader>(
        'DELETE FROM peer_units WHERE sale_id = ? AND sku = ? AND unit_no IN (?)',
        [order.saleId, sku, claimed],
      );
      units.push(...claimed);
    }
    await connection.execute(
      `INSERT INTO peer_reservations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      rowOf(order, units),
    );
    await connection.query('COMMIT');
    return { kind: 'accepted' };
  } catch (error) {
    await connection.query('ROLLBACK');
    if (error instanceof Error && 'code' in error && error.code === DUPLICATE_KEY)
      return findEarlier(pool, order);
    throw error;
  } finally {
    connection.release();
  }
}

function rowOf(order: PeerOrder, units: readonly number[]): (string | number)[] {
  return [
    order.orderNo,
    order.saleId,
    order.userId,
    order.idempotencyKey,
    JSON.stringify(order.items),
    JSON.stringify(units),
    order.total,
    order.currency,
    order.reservedAtMs,
    order.paymentWindowMs,
    order.ip,
    order.userAgent,
  ];
}

async function findEarlier(pool: Pool, { saleId, userId, idempotencyKey }: PeerOrder): Promise<PeerOutcome> {
  const [rows] = await pool.execute<RowDataPacket[]>(
    'SELECT order_no FROM peer_reservations WHERE sale_id = ? AND user_id = ? AND idempotency_key = ?',
    [saleId, userId, idempotencyKey],
  );
  return { kind: 'repeated', orderNo: String(rows[0]?.['order_no']) };
}
