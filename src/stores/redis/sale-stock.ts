/**
 * A sale in Redis: its rules and its stock. Only warm-up and rebuild create them; `restock` changes a total.
 */

import { z } from 'zod';
import type { Sale, StockCount } from '../../domain/sale.ts';
import { transact, type RedisClient } from './connection.ts';
import { formatSaleShard, saleKeys, SALES_KEY } from './keys.ts';
import type { lifeReply } from './replies.ts';
import { run } from './script-call.ts';
import { checkLife, restock } from './scripts.ts';

const int = z.coerce.number().int();
const saleHash = z.object({
  epoch: int,
  name: z.string(),
  currency: z.string(),
  opens_at: int,
  closes_at: int,
  paused: z.enum(['0', '1']),
  suspended: z.literal('1').optional(),
  payment_window: int,
  skus: z
    .string()
    .transform((text) => JSON.parse(text) as unknown)
    .pipe(z.array(z.object({ sku: z.string(), name: z.string() }))),
});

/**
 * A sale as shoppers may see it, and its stock, which is read in one step. MySQL alone has the rule for
 * refunds.
 */
export interface SaleView extends Omit<Sale, 'skus' | 'refundRestoresLimit'> {
  skus: (StockCount & { name: string; unitPrice: number; limitPerUser: number | null })[];
}

/** See `lua/check-life.lua`. */
export type SaleLife = z.infer<typeof lifeReply>;

/** All of a sale is in shard 0 until hot SKUs are split. */
const keysOf = (saleId: string) => saleKeys({ saleId, shard: 0 });

export type SaleStock = ReturnType<typeof createSaleStock>;

export function createSaleStock(redis: RedisClient) {
  return {
    /**
     * Puts a sale into Redis, each field only where it is absent: repeating it, or two at once, changes
     * nothing. Never for a sale that has sold before: lost stock must be rebuilt from MySQL instead.
     */
    async warmUp(sale: Sale, epoch: number): Promise<void> {
      const keys = keysOf(sale.saleId);
      // Registered first: a relay that knows a sale too early waits; orders of a sale that no relay knows
      // would be lost.
      await redis.sadd(SALES_KEY, formatSaleShard({ saleId: sale.saleId, shard: 0 }));
      const transaction = redis.multi();
      for (const item of sale.skus) {
        transaction.hsetnx(keys.stock, `${item.sku}:total`, item.total);
        transaction.hsetnx(keys.stock, `${item.sku}:available`, item.total);
        transaction.hsetnx(keys.stock, `${item.sku}:held`, 0);
        transaction.hsetnx(keys.stock, `${item.sku}:sold`, 0);
        transaction.hsetnx(keys.stock, `${item.sku}:version`, 0);
      }
      const fields = { ...saleFields(sale), epoch };
      for (const [field, value] of Object.entries(fields)) transaction.hsetnx(keys.sale, field, value);
      await transact(transaction);
      // Remembers on which server the data were made.
      await run(redis, checkLife, { keys, args: {} });
    },

    /** Sets a SKU's total; `version` grows with each change and comes from MySQL. */
    restock: (saleId: string, sku: string, total: number, version: number) =>
      run(redis, restock, { keys: keysOf(saleId), args: { sku, total, version } }),

    /** Whether the sale's data are those that this server was given, or are to be made again. */
    checkLife: (saleId: string): Promise<SaleLife> =>
      run(redis, checkLife, { keys: keysOf(saleId), args: {} }),

    /** @returns undefined when Redis does not know the sale */
    async read(saleId: string): Promise<SaleView | undefined> {
      const keys = keysOf(saleId);
      // All of the stock is one hash, so the equation holds in the view. A transaction would fail at
      // maxmemory, even to read.
      const [sale, stock] = await Promise.all([redis.hgetall(keys.sale), redis.hgetall(keys.stock)]);
      if (sale['epoch'] === undefined) return undefined;
      return toSaleView(saleId, sale, stock);
    },

    /**
     * Sets how many orders wait for the engine besides those in this sale's outbox: in the outboxes of other
     * sales, or stored. With its outbox they are the backlog that `reserve` bounds.
     */
    async setWaitingElsewhere(saleId: string, orderCount: number): Promise<void> {
      await redis.set(keysOf(saleId).waitingElsewhere, orderCount);
    },
  };
}

/** The fields of a sale's hash that say its rules. */
export function saleFields(sale: Sale): Record<string, string | number> {
  const rules = sale.skus.flatMap(({ sku, unitPrice, limitPerUser }): [string, number][] => [
    [`price:${sku}`, unitPrice],
    ...(limitPerUser === null ? [] : [[`limit:${sku}`, limitPerUser] satisfies [string, number]]),
  ]);
  return {
    ...Object.fromEntries(rules),
    name: sale.name,
    currency: sale.currency,
    opens_at: sale.opensAtMs,
    closes_at: sale.closesAtMs,
    paused: sale.paused ? 1 : 0,
    payment_window: sale.paymentWindowMs,
    skus: JSON.stringify(sale.skus.map(({ sku, name }) => ({ sku, name }))),
  };
}

function toSaleView(saleId: string, sale: Record<string, string>, stock: Record<string, string>): SaleView {
  const parsed = saleHash.parse(sale);
  const count = (sku: string, field: string) => int.parse(stock[`${sku}:${field}`]);
  return {
    saleId,
    name: parsed.name,
    currency: parsed.currency,
    opensAtMs: parsed.opens_at,
    closesAtMs: parsed.closes_at,
    paused: parsed.paused === '1' || parsed.suspended === '1',
    paymentWindowMs: parsed.payment_window,
    skus: parsed.skus.map(({ sku, name }) => ({
      sku,
      name,
      unitPrice: int.parse(sale[`price:${sku}`]),
      limitPerUser: sale[`limit:${sku}`] === undefined ? null : int.parse(sale[`limit:${sku}`]),
      total: count(sku, 'total'),
      available: count(sku, 'available'),
      held: count(sku, 'held'),
      sold: count(sku, 'sold'),
    })),
  };
}
