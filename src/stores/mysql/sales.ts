/** Sales in MySQL: their creation, their stock counters, and their warm-up into Redis. */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { MAX_PAYMENT_WINDOW_MS, WATCHED_AFTER_CLOSE_MS } from '../../domain/limits.ts';
import { saleSchema, type Sale, type StockCount } from '../../domain/sale.ts';
import { inTransaction, modify, selectRows, type Executor, type Pool } from './connection.ts';

const saleIdRow = z.object({ sale_id: z.string() });

const saleRow = z.object({
  name: z.string(),
  currency: z.string(),
  opens_at: z.date(),
  closes_at: z.date(),
  payment_window_ms: z.int(),
  paused: z.coerce.boolean(),
  refund_restores_limit: z.coerce.boolean(),
  epoch: z.int(),
  warmed_up_at: z.date().nullable(),
});

const skuRow = z.object({
  sku: z.string(),
  name: z.string(),
  unit_price: z.int(),
  limit_per_user: z.int().nullable(),
  total: z.int(),
  held: z.int(),
  sold: z.int(),
});

/**
 * The sale's data in Redis are to be there: it was warmed up, and is not long over. Its value is
 * `WATCHED_AFTER_CLOSE_MS`.
 */
export const IS_WATCHED = `warmed_up_at IS NOT NULL AND redis_cleaned_at IS NULL
  AND closes_at > NOW(3) - INTERVAL ? * 1000 MICROSECOND`;

/** The part of the sale's stock in Redis that warming up needs. */
interface WarmStock {
  warmUp(sale: Sale, epoch: number): Promise<void>;
}

export type Sales = ReturnType<typeof createSales>;

export function createSales(pool: Pool) {
  return {
    /**
     * Creates the sale with its SKUs. A sale that exists is left as it is.
     * @throws ZodError that lists what is wrong with the sale
     */
    create: (input: Sale): Promise<void> =>
      inTransaction(pool, async (connection) => {
        const sale = saleSchema.parse(input);
        const created = await modify(
          connection,
          `INSERT INTO sales (sale_id, name, currency, opens_at, closes_at, payment_window_ms, paused,
             refund_restores_limit)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE sale_id = sale_id`,
          [
            sale.saleId,
            sale.name,
            sale.currency,
            new Date(sale.opensAtMs),
            new Date(sale.closesAtMs),
            sale.paymentWindowMs,
            sale.paused,
            sale.refundRestoresLimit,
          ],
        );
        if (created !== 1) return;
        await modify(
          connection,
          'INSERT INTO skus (sale_id, sku, name, unit_price, limit_per_user, total, position) VALUES ?',
          [
            sale.skus.map((item, position) => [
              sale.saleId,
              item.sku,
              item.name,
              item.unitPrice,
              item.limitPerUser,
              item.total,
              position,
            ]),
          ],
        );
      }),

    /**
     * Puts the sale into Redis, once in its life, because stock that Redis has lost must not come back as
     * unsold. When the process dies before `warmed_up_at` is set, a repeat finds the fields in place and sets
     * it.
     */
    async warmUp(saleId: string, saleStock: WarmStock): Promise<void> {
      const { sale, epoch, warmedUpAt } = await readSale(pool, saleId);
      if (warmedUpAt !== null) return;
      await saleStock.warmUp(sale, epoch);
      await modify(pool, 'UPDATE sales SET warmed_up_at = NOW(3) WHERE sale_id = ?', [saleId]);
    },

    /** The stock as MySQL counts it: total = available + held + sold, where `available` is derived. */
    async readStock(saleId: string): Promise<StockCount[]> {
      const rows = await readSkus(pool, saleId);
      return rows.map(({ sku, total, held, sold }) => ({
        sku,
        total,
        available: total - held - sold,
        held,
        sold,
      }));
    },

    /** Whether the sale's data in Redis are made again when they are lost. */
    async isWatched(saleId: string): Promise<boolean> {
      const rows = await selectRows(
        pool,
        saleIdRow,
        `SELECT sale_id FROM sales WHERE sale_id = ? AND ${IS_WATCHED}`,
        [saleId, WATCHED_AFTER_CLOSE_MS],
      );
      return rows.length > 0;
    },

    /** In ms, of the sales whose orders may still be paid; 0 where there is none. */
    async longestPaymentWindowMs(): Promise<number> {
      const [row] = await selectRows(
        pool,
        z.object({ longest: z.coerce.number() }),
        `SELECT COALESCE(MAX(payment_window_ms), 0) AS longest FROM sales
         WHERE closes_at > NOW(3) - INTERVAL ? SECOND`,
        [(2 * MAX_PAYMENT_WINDOW_MS) / 1_000],
      );
      return row?.longest ?? 0;
    },

    /** Whether the sale's data in Redis were removed for good, long after its end. */
    async isRedisCleaned(saleId: string): Promise<boolean> {
      const rows = await selectRows(
        pool,
        saleIdRow,
        'SELECT sale_id FROM sales WHERE sale_id = ? AND redis_cleaned_at IS NOT NULL',
        [saleId],
      );
      return rows.length > 0;
    },

    /** Every sale's id, the newest first. */
    async listIds(): Promise<string[]> {
      const rows = await selectRows(
        pool,
        saleIdRow,
        'SELECT sale_id FROM sales ORDER BY created_at DESC, sale_id',
      );
      return rows.map((row) => row.sale_id);
    },
  };
}

export async function readSale(
  reader: Executor,
  saleId: string,
): Promise<{ sale: Sale; epoch: number; warmedUpAt: Date | null }> {
  const [row] = await selectRows(
    reader,
    saleRow,
    `SELECT name, currency, opens_at, closes_at, payment_window_ms, paused, refund_restores_limit, epoch,
       warmed_up_at FROM sales WHERE sale_id = ?`,
    [saleId],
  );
  assert(row, `no sale ${saleId}`);
  const skus = await readSkus(reader, saleId);
  const sale = {
    saleId,
    name: row.name,
    currency: row.currency,
    opensAtMs: row.opens_at.getTime(),
    closesAtMs: row.closes_at.getTime(),
    paused: row.paused,
    paymentWindowMs: row.payment_window_ms,
    refundRestoresLimit: row.refund_restores_limit,
    skus: skus.map((sku) => ({
      sku: sku.sku,
      name: sku.name,
      unitPrice: sku.unit_price,
      limitPerUser: sku.limit_per_user,
      total: sku.total,
    })),
  };
  return { sale, epoch: row.epoch, warmedUpAt: row.warmed_up_at };
}

function readSkus(reader: Executor, saleId: string) {
  return selectRows(
    reader,
    skuRow,
    'SELECT sku, name, unit_price, limit_per_user, total, held, sold FROM skus WHERE sale_id = ? ORDER BY position',
    [saleId],
  );
}
