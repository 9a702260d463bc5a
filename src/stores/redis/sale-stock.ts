/** A sale in Redis: its rules and its stock. Only its warm-up and a rebuild create them. */

import { z } from 'zod';
import { saleStateOf, type Sale, type SaleState, type StockCount } from '../../domain/sale.ts';
import { metadataSchema } from '../../domain/shop-data.ts';
import type { RedisClient } from './connection.ts';
import { formatSaleShard, saleKeys, SALES_KEY, wholeSale } from './keys.ts';
import type { changeSaleReply, lifeReply } from './replies.ts';
import { changeSale, checkLife } from './sale-scripts.ts';
import { run } from './script-call.ts';

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
  limit_per_user: int.optional(),
  ticket: z.enum(['0', '1']).optional(),
  reference: z.string().optional(),
  metadata: json(metadataSchema).optional(),
  skus: json(
    z.array(
      z.object({
        sku: z.string(),
        name: z.string(),
        reference: z.string().optional(),
        metadata: metadataSchema.optional(),
      }),
    ),
  ),
});

function json<T extends z.ZodType>(schema: T) {
  return z
    .string()
    .transform((text) => JSON.parse(text) as unknown)
    .pipe(schema);
}

/**
 * A sale as shoppers may see it, and its stock, which is read in one step. MySQL alone has the rule for
 * refunds.
 */
export interface SaleView extends Omit<Sale, 'skus' | 'refundRestoresLimit'> {
  /** By Redis' clock, as `reserve` decides. */
  state: SaleState;
  skus: (StockCount & Sale['skus'][number])[];
}

/** What Redis is to decide: a change of a sale that it has, or the first one, which puts it there. */
export interface SaleChange {
  saleId: string;
  changeNo: number;
  /** warm_up: the sale is put into Redis where it is absent. */
  action: string;
  epoch: number;
  /** When it was known to be pending, by this process' `performance.now()`. */
  readAtMs: number;
  document: { sale: Sale };
}

/**
 * A warm-up that comes later than this is refused, in ms: its process was frozen, or it was sent again. By
 * then another may have put the sale into Redis, orders may have been sold, and Redis may have lost them. A
 * busy machine needs seconds, and a sale is put there minutes before it opens.
 */
const WARM_UP_WITHIN_MS = 30_000;

/** See `lua/check-life.lua`. */
export type SaleLife = z.infer<typeof lifeReply>;

const keysOf = (saleId: string) => saleKeys(wholeSale(saleId));

/** See `lua/change-sale.lua`. */
type ChangeReply = z.infer<typeof changeSaleReply>;

export type SaleStock = ReturnType<typeof createSaleStock>;

export function createSaleStock(redis: RedisClient) {
  return {
    /** See `lua/change-sale.lua`. */
    async change({ saleId, changeNo, action, epoch, readAtMs, document }: SaleChange): Promise<ChangeReply> {
      const { sale } = document;
      const isWarmUp = action === 'warm_up';
      // Registered first: a relay that knows a sale too early waits; orders of a sale that no relay knows
      // would be lost.
      if (isWarmUp) await redis.sadd(SALES_KEY, formatSaleShard(wholeSale(saleId)));
      const untilMs = isWarmUp ? await endOfWarmUp(redis, readAtMs) : 0;
      return run(redis, changeSale, {
        keys: keysOf(saleId),
        args: { changeNo, epoch: isWarmUp ? epoch : 0, rules: JSON.stringify(ruleFields(sale)), untilMs },
        repeated: sale.skus.map(({ sku, unitPrice, limitPerUser, total }) => ({
          sku,
          unitPrice,
          limit: limitPerUser ?? '',
          total,
        })),
      });
    },

    /** Whether the sale's data are those that this server was given, or are to be made again. */
    checkLife: (saleId: string): Promise<SaleLife> =>
      run(redis, checkLife, { keys: keysOf(saleId), args: {} }),

    /** @returns undefined when Redis does not know the sale */
    async read(saleId: string): Promise<SaleView | undefined> {
      const keys = keysOf(saleId);
      // All of the stock is one hash, so the equation holds in the view. A transaction would fail at
      // maxmemory, even to read.
      const [sale, stock, nowMs] = await Promise.all([
        redis.hgetall(keys.sale),
        redis.hgetall(keys.stock),
        readTimeMs(redis),
      ]);
      if (sale['epoch'] === undefined) return undefined;
      return toSaleView(saleId, sale, stock, nowMs);
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

/** By Redis' clock, Unix ms. The age is taken after the answer, so a freeze before the script counts. */
async function endOfWarmUp(redis: RedisClient, readAtMs: number): Promise<number> {
  const nowMs = await readTimeMs(redis);
  return nowMs - Math.ceil(performance.now() - readAtMs) + WARM_UP_WITHIN_MS;
}

/** By Redis' clock, Unix ms. */
export async function readTimeMs(redis: RedisClient): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1_000 + Math.floor(Number(micros) / 1_000);
}

/** The fields of a sale's hash that say its rules. */
export function saleFields(sale: Sale): Record<string, string | number> {
  const rules = sale.skus.flatMap(({ sku, unitPrice, limitPerUser }): [string, number][] => [
    [`price:${sku}`, unitPrice],
    ...(limitPerUser === null ? [] : [[`limit:${sku}`, limitPerUser] satisfies [string, number]]),
  ]);
  return { ...Object.fromEntries(rules), ...ruleFields(sale) };
}

/** Those of the sale as a whole. What it has not has no field. */
function ruleFields(sale: Sale): Record<string, string> {
  const { limitPerUser, reference, metadata } = sale;
  return {
    name: sale.name,
    currency: sale.currency,
    opens_at: String(sale.opensAtMs),
    closes_at: String(sale.closesAtMs),
    paused: sale.paused ? '1' : '0',
    payment_window: String(sale.paymentWindowMs),
    ticket: sale.ticketRequired ? '1' : '0',
    ...(limitPerUser === null ? {} : { limit_per_user: String(limitPerUser) }),
    ...(reference === undefined ? {} : { reference }),
    ...(metadata === undefined ? {} : { metadata: JSON.stringify(metadata) }),
    // For `reserve`, which reads them for each order of a sale with a limit: JSON with all of the SKUs' data
    // would take milliseconds of Redis. No SKU has a line break.
    sku_codes: sale.skus.map(({ sku }) => sku).join('\n'),
    skus: JSON.stringify(sale.skus.map((item) => ({ sku: item.sku, name: item.name, ...shopData(item) }))),
  };
}

function shopData({ reference, metadata }: Pick<Sale, 'reference' | 'metadata'>) {
  return {
    ...(reference === undefined ? {} : { reference }),
    ...(metadata === undefined ? {} : { metadata }),
  };
}

function toSaleView(
  saleId: string,
  sale: Record<string, string>,
  stock: Record<string, string>,
  nowMs: number,
): SaleView {
  const parsed = saleHash.parse(sale);
  const count = (sku: string, field: string) => int.parse(stock[`${sku}:${field}`]);
  const rules = {
    opensAtMs: parsed.opens_at,
    closesAtMs: parsed.closes_at,
    paused: parsed.paused === '1' || parsed.suspended === '1',
  };
  return {
    saleId,
    name: parsed.name,
    currency: parsed.currency,
    ...rules,
    state: saleStateOf(rules, nowMs),
    paymentWindowMs: parsed.payment_window,
    limitPerUser: parsed.limit_per_user ?? null,
    ticketRequired: parsed.ticket === '1',
    ...shopData(parsed),
    skus: parsed.skus.map(({ sku, name, ...ofShop }) => ({
      sku,
      name,
      ...shopData(ofShop),
      unitPrice: int.parse(sale[`price:${sku}`]),
      limitPerUser: sale[`limit:${sku}`] === undefined ? null : int.parse(sale[`limit:${sku}`]),
      total: count(sku, 'total'),
      available: count(sku, 'available'),
      held: count(sku, 'held'),
      sold: count(sku, 'sold'),
    })),
  };
}
