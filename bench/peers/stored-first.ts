/**
 * Design D, its second model, accepting side: a Lua script deducts the stock in Redis, the order waits its
 * turn in memory, and the caller waits with it until the order's rows are committed in MySQL. An order whose
 * turn does not come in time is given up, and its stock goes back.
 *
 * Source: a published article on order queues that sets two models beside each other. In the first the caller
 * is answered at once and the order is stored later, as by designs A and B. In the second, which is this one,
 * the caller waits for the storing, for seven seconds at most, and a wait that ends without it is rolled
 * back. The article leaves the queue open; in memory it is the fastest, and what a crash loses was promised
 * to no shopper, though its stock stays taken.
 */

import type { Pool, RowDataPacket } from 'mysql2/promise';
import pLimit from 'p-limit';
import { openStore } from './consumers/consumer.ts';
import { storeOrder } from './consumers/store-order.ts';
import { connectPlainRedis, createLuaStock } from './lua-stock.ts';
import type { OpenPeer, Peer, PeerOrder, PeerOutcome } from './peer.ts';

const DUPLICATE_KEY = 'ER_DUP_ENTRY';

interface Waits {
  /** Orders that are stored at once. All of them change the same row of stock, so more would wait there. */
  storing: number;
  /** From the call until an order's turn to be stored. */
  timeoutMs: number;
}

export const openStoredFirst: OpenPeer = ({ servers }) =>
  openWithWaits(servers, { storing: 10, timeoutMs: 7_000 });

/** Idempotency is MySQL's unique key of sale, user and idempotency key, as the rows have it anyway. */
export async function openWithWaits(
  { redisUrl, mysqlUrl }: { redisUrl: string; mysqlUrl: string },
  { storing, timeoutMs }: Waits,
): Promise<Peer> {
  const redis = connectPlainRedis(redisUrl);
  const stock = await createLuaStock(redis);
  // One more, so that the look for a repeated order does not queue behind those that are stored.
  const pool = openStore(mysqlUrl, storing + 1);
  const inTurn = pLimit(storing);
  const opened = new Set<string>();

  /** An order whose turn has come is stored to the end: to give up a commit under way would sell twice. */
  const storeInTime = (order: PeerOrder): Promise<void> =>
    new Promise((resolve, reject) => {
      let isGivenUp = false;
      const timer = setTimeout(() => {
        isGivenUp = true;
        reject(new Error(`${order.orderNo} was not stored within ${timeoutMs} ms`));
      }, timeoutMs);
      inTurn(async () => {
        clearTimeout(timer);
        if (!isGivenUp) await storeOrder(pool, order);
      }).then(resolve, reject);
    });

  return {
    async openSale(saleId, units) {
      opened.add(saleId);
      await stock.open(saleId, units);
      await pool.query(
        "INSERT INTO skus (sale_id, sku, name, unit_price, total, position) VALUES (?, 'unit', 'Unit', 1000, ?, 0)",
        [saleId, units],
      );
    },

    async accept(order) {
      if (!(await stock.deduct(order))) return { kind: 'sold-out' };
      try {
        await storeInTime(order);
        return { kind: 'accepted' };
      } catch (error) {
        await stock.giveBack(order);
        if (isDuplicate(error)) return findEarlier(pool, order);
        throw error;
      }
    },

    async count(saleId) {
      const [rows] = await pool.query<RowDataPacket[]>('SELECT COUNT(*) AS n FROM orders WHERE sale_id = ?', [
        saleId,
      ]);
      return { taken: await stock.countTaken(saleId), handedOver: Number(rows[0]?.['n']) };
    },

    async clear() {
      for (const table of ['orders', 'order_items']) await pool.query(`TRUNCATE TABLE ${table}`);
      for (const saleId of opened) await pool.query('DELETE FROM skus WHERE sale_id = ?', [saleId]);
      opened.clear();
    },

    async close() {
      await pool.end();
      redis.disconnect();
    },
  };
}

function isDuplicate(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === DUPLICATE_KEY;
}

async function findEarlier(pool: Pool, { saleId, userId, idempotencyKey }: PeerOrder): Promise<PeerOutcome> {
  const [rows] = await pool.query<RowDataPacket[]>(
    'SELECT order_no FROM orders WHERE sale_id = ? AND user_id = ? AND idempotency_key = ?',
    [saleId, userId, idempotencyKey],
  );
  return { kind: 'repeated', orderNo: String(rows[0]?.['order_no']) };
}
