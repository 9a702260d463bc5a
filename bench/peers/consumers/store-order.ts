/** Stores one order in a transaction of its own, as the designs do that Holdfast is compared with. */

import assert from 'node:assert/strict';
import type { Pool, PoolConnection } from 'mysql2/promise';
import { z } from 'zod';
import { HOLD_STOCK, INSERT_ITEMS, INSERT_ORDERS, itemRows, orderRow } from '../order-rows.ts';
import type { PeerOrder } from '../peer.ts';

const DEADLOCK = 1213;
const TRIES = 10;

const trusted = z.custom<PeerOrder>();
const updated = z.object({ affectedRows: z.int() });

/** The order, its items, and the stock they take, which is updated last and so is locked for the shortest. */
export async function storeOrder(pool: Pool, order: PeerOrder): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await tryStore(pool, order);
    } catch (error) {
      if (!isDeadlock(error) || attempt === TRIES) throw error;
    }
  }
}

/** A peer trusts its own queue, so nothing is validated that would slow it. */
export function parseOrder(json: string): PeerOrder {
  return trusted.parse(JSON.parse(json));
}

async function tryStore(pool: Pool, order: PeerOrder): Promise<void> {
  const connection = await pool.getConnection();
  try {
    await connection.beginTransaction();
    await insertAndHold(connection, order);
    await connection.commit();
  } catch (error) {
    await connection.rollback();
    throw error;
  } finally {
    connection.release();
  }
}

async function insertAndHold(connection: PoolConnection, order: PeerOrder): Promise<void> {
  await connection.query(INSERT_ORDERS, [[orderRow(order, null)]]);
  await connection.query(INSERT_ITEMS, [itemRows(order)]);
  for (const { sku, quantity } of order.items) {
    const [result] = await connection.query(HOLD_STOCK, [quantity, order.saleId, sku, quantity]);
    assert.equal(updated.parse(result).affectedRows, 1, `stock of ${sku}`);
  }
}

function isDeadlock(error: unknown): boolean {
  return z.object({ errno: z.literal(DEADLOCK) }).safeParse(error).success;
}
