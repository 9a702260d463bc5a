/** A sale in Redis: its rules and its stock. Only its warm-up and a rebuild create them. */

import { z } from 'zod';
import { metadataSchema, jsonText } from '../orders/content.ts';
import { readClockMs, type RedisClient } from '../redis/connection.ts';
import { saleKeys, wholeSale } from '../redis/keys.ts';
import { listSales, registerSales } from '../redis/outbox.ts';
import { run, defineScript, replyInt } from '../redis/script.ts';
import {
  IN_REDIS_PAGE,
  type DecidedSale,
  saleStateOf,
  type Sale,
  type SaleState,
  type StockCount,
  verificationJson,
} from './sale.ts';

/** Whether a sale's data are those that this server was given. */
export const lifeReply = z.union([
  z
    .tuple([z.enum(['well', 'replaced', 'suspended', 'damaged']), replyInt])
    .transform(([kind, epoch]) => ({ kind, epoch })),
  z.tuple([z.literal('sale-absent')]).transform(([kind]) => ({ kind })),
]);

export const serverTimeReply = z
  .tuple([z.literal('time'), replyInt, z.string()])
  .transform(([, nowMs, runId]) => ({ nowMs, runId }));

export const changeSaleReply = z.union([
  z.tuple([z.enum(['changed', 'sale-absent'])]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('stale'), replyInt]).transform(([kind, changeNo]) => ({ kind, changeNo })),
  z
    .tuple([z.literal('below-committed'), z.string(), replyInt])
    .transform(([kind, sku, committed]) => ({ kind, sku, committed })),
  z.tuple([z.literal('closed'), replyInt]).transform(([kind, closesAtMs]) => ({ kind, closesAtMs })),
]);

export const checkLifeScript = defineScript({
  file: 'check-life',
  keys: ['sale', 'stock', 'limits', 'outbox', 'deadlines', 'restored', 'returns', 'open', 'unpaid'],
  args: [],
  reply: lifeReply,
});

export const serverTimeScript = defineScript({
  file: 'server-time',
  keys: ['sale'],
  args: [],
  reply: serverTimeReply,
});

export const changeSaleScript = defineScript({
  file: 'change-sale',
  keys: ['sale', 'stock'],
  args: ['changeNo', 'changeId', 'epoch', 'rules', 'untilMs', 'seenRunId'],
  repeated: ['sku', 'unitPrice', 'limit', 'total'],
  reply: changeSaleReply,
});

const int = z.coerce.number().int();
const time = z.string().transform(Number).pipe(z.int());
const saleTimes = z.tuple([time, time]);
const saleHash = z.object({
  epoch: int,
  name: z.string(),
  currency: z.string(),
  change_no: int.default(1),
  change_id: z.string().default(''),
  opens_at: int,
  closes_at: int,
  paused: z.enum(['0', '1']),
  suspended: z.literal('1').optional(),
  payment_window: int,
  limit_per_user: int.optional(),
  max_unpaid: int.optional(),
  address_purchases: int.optional(),
  ticket: z.enum(['0', '1']).optional(),
  verification: verificationJson.optional(),
  reference: z.string().optional(),
  metadata: jsonText(metadataSchema).optional(),
  skus: jsonText(
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

/**
 * A sale as shoppers may see it, and its stock, which is read in one step. MySQL alone has the rule for
 * refunds.
 */
export interface SaleView extends Omit<Sale, 'skus' | 'refundRestoresLimit' | 'expiringNoticeMs'> {
  /** By Redis' clock, as `reserve` decides. */
  state: SaleState;
  skus: (StockCount & Sale['skus'][number])[];
}

/** What Redis is to decide: a change of a sale that it has, or the first one, which puts it there. */
export interface SaleChange {
  saleId: string;
  changeNo: number;
  /** Random; a repeat has the same. */
  changeId: string;
  /** warm_up: the sale is put into Redis where it is absent. */
  action: string;
  epoch: number;
  document: { sale: Sale };
}

/**
 * A warm-up that comes later than this is refused, in ms by the server's clock: its process was frozen, or it
 * was sent again. By then another may have put the sale into Redis, orders may have been sold, and Redis may
 * have lost them. A busy machine needs seconds, and a sale is put there minutes before it opens.
 */
const WARM_UP_WITHIN_MS = 30_000;

/** See `lua/check-life.lua`. */
export type SaleLife = z.infer<typeof lifeReply>;

const keysOf = (saleId: string) => saleKeys(wholeSale(saleId));

/** See `lua/change-sale.lua`. */
type ChangeReply = z.infer<typeof changeSaleReply>;

/**
 * See `lua/change-sale.lua`.
 * @param isPending whether MySQL still has the change as pending; asked before a warm-up
 */
export async function change(
  redis: RedisClient,
  { saleId, changeNo, changeId, action, epoch, document }: SaleChange,
  isPending: () => Promise<boolean>,
): Promise<ChangeReply> {
  const { sale } = document;
  const keys = keysOf(saleId);
  const isWarmUp = action === 'warm_up';
  // Registered first: a relay that knows a sale too early waits; orders of a sale that no relay knows
  // would be lost.
  if (isWarmUp) await registerSales(redis, [wholeSale(saleId)]);
  // The knowledge that a warm-up is pending is newer than this.
  const known = isWarmUp ? await run(redis, serverTimeScript, { keys, args: {} }) : undefined;
  if (isWarmUp && !(await isPending())) return { kind: 'stale', changeNo };
  return run(redis, changeSaleScript, {
    keys,
    args: {
      changeNo,
      changeId,
      epoch: isWarmUp ? epoch : 0,
      rules: JSON.stringify(ruleFields(sale)),
      untilMs: known ? known.nowMs + WARM_UP_WITHIN_MS : 0,
      seenRunId: known?.runId ?? '',
    },
    repeated: sale.skus.map(({ sku, unitPrice, limitPerUser, total }) => ({
      sku,
      unitPrice,
      limit: limitPerUser ?? '',
      total,
    })),
  });
}

/**
 * Redis' clock, by which orders were reserved and so have their deadlines (Unix ms).
 * @param saleId of a cluster, that of the node which has this sale; without it, of any node
 */
export async function readTimeMs(redis: RedisClient, saleId?: string): Promise<number> {
  return saleId === undefined
    ? readClockMs(redis)
    : (await run(redis, serverTimeScript, { keys: keysOf(saleId), args: {} })).nowMs;
}

/** Whether the sale's data are those that this server was given, or are to be made again. */
export function checkLife(redis: RedisClient, saleId: string): Promise<SaleLife> {
  return run(redis, checkLifeScript, { keys: keysOf(saleId), args: {} });
}

/** @returns undefined when Redis does not know the sale */
export async function read(redis: RedisClient, saleId: string): Promise<SaleView | undefined> {
  return (await readAt(redis, saleId))?.view;
}

/** As `read`, and when it was read, by Redis' clock (Unix ms). */
export async function readAt(
  redis: RedisClient,
  saleId: string,
): Promise<{ view: SaleView; nowMs: number } | undefined> {
  const [hashes, nowMs] = await Promise.all([readHashes(redis, saleId), readClockMs(redis)]);
  return hashes && { view: toSaleView(saleId, hashes, nowMs), nowMs };
}

/** The sales that Redis has, and in how many ms each opens and closes; negative: it has. */
export async function listCourses(
  redis: RedisClient,
): Promise<{ saleId: string; opensInMs: number; closesInMs: number }[]> {
  const [shards, nowMs] = await Promise.all([listSales(redis), readClockMs(redis)]);
  const saleIds = [...new Set(shards.map(({ saleId }) => saleId))].slice(0, IN_REDIS_PAGE);
  const found = await Promise.allSettled(
    saleIds.map(async (saleId) => {
      const times = await redis.hmget(keysOf(saleId).sale, 'opens_at', 'closes_at');
      const [opensAtMs, closesAtMs] = saleTimes.parse(times);
      return { saleId, opensInMs: opensAtMs - nowMs, closesInMs: closesAtMs - nowMs };
    }),
  );
  // One that is to come has no times yet; another's key may be damaged.
  return found.flatMap((sale) => (sale.status === 'fulfilled' ? [sale.value] : []));
}

/** What the sale is sold by, and its last change. @returns undefined when Redis does not know the sale */
export async function readDecided(redis: RedisClient, saleId: string): Promise<DecidedSale | undefined> {
  const hashes = await readHashes(redis, saleId);
  return hashes && toDecided(saleId, hashes);
}

/** As `read` and `readDecided`, of one moment. */
export async function readWithChange(
  redis: RedisClient,
  saleId: string,
): Promise<{ view: SaleView; decided: DecidedSale } | undefined> {
  const [hashes, nowMs] = await Promise.all([readHashes(redis, saleId), readClockMs(redis)]);
  return hashes && { view: toSaleView(saleId, hashes, nowMs), decided: toDecided(saleId, hashes) };
}

interface SaleHashes {
  sale: Record<string, string>;
  stock: Record<string, string>;
}

/** All stock is one hash, so the equation holds. A transaction would fail at maxmemory, even to read. */
async function readHashes(redis: RedisClient, saleId: string): Promise<SaleHashes | undefined> {
  const keys = keysOf(saleId);
  const [sale, stock] = await Promise.all([redis.hgetall(keys.sale), redis.hgetall(keys.stock)]);
  return sale['epoch'] === undefined ? undefined : { sale, stock };
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
  const { limitPerUser, maxUnpaidHolds, addressPurchasesPerMinute, verification, reference, metadata } = sale;
  return {
    name: sale.name,
    currency: sale.currency,
    opens_at: String(sale.opensAtMs),
    closes_at: String(sale.closesAtMs),
    paused: sale.paused ? '1' : '0',
    payment_window: String(sale.paymentWindowMs),
    ticket: sale.ticketRequired ? '1' : '0',
    ...(limitPerUser === null ? {} : { limit_per_user: String(limitPerUser) }),
    ...(maxUnpaidHolds === null ? {} : { max_unpaid: String(maxUnpaidHolds) }),
    // No script reads it: it is for the views that the API has in memory.
    ...(addressPurchasesPerMinute === null ? {} : { address_purchases: String(addressPurchasesPerMinute) }),
    ...(verification === undefined ? {} : { verification: JSON.stringify(verification) }),
    ...(reference === undefined ? {} : { reference }),
    ...(metadata === undefined ? {} : { metadata: JSON.stringify(metadata) }),
    // For good: no change takes it away.
    ...Object.fromEntries(
      sale.skus.flatMap(({ sku, calledOff }) => (calledOff ? [[`off:${sku}`, '1']] : [])),
    ),
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

function toSaleView(saleId: string, hashes: SaleHashes, nowMs: number): SaleView {
  const parsed = saleHash.parse(hashes.sale);
  const rules = toRules(parsed);
  const shown = { ...rules, paused: rules.paused || parsed.suspended === '1' };
  return {
    saleId,
    ...shown,
    state: saleStateOf(shown, nowMs),
    skus: parsed.skus.map((item) => ({
      ...toSku(item, hashes),
      available: countOf(hashes, item.sku, 'available'),
      held: countOf(hashes, item.sku, 'held'),
      sold: countOf(hashes, item.sku, 'sold'),
    })),
  };
}

function toDecided(saleId: string, hashes: SaleHashes): DecidedSale {
  const parsed = saleHash.parse(hashes.sale);
  const { change_no: changeNo, change_id: changeId, epoch } = parsed;
  const skus = parsed.skus.map((item) => toSku(item, hashes));
  return { changeNo, changeId, epoch, sale: { saleId, ...toRules(parsed), skus } };
}

type SaleHash = z.infer<typeof saleHash>;

function toRules(parsed: SaleHash) {
  return {
    name: parsed.name,
    currency: parsed.currency,
    opensAtMs: parsed.opens_at,
    closesAtMs: parsed.closes_at,
    paused: parsed.paused === '1',
    paymentWindowMs: parsed.payment_window,
    limitPerUser: parsed.limit_per_user ?? null,
    maxUnpaidHolds: parsed.max_unpaid ?? null,
    addressPurchasesPerMinute: parsed.address_purchases ?? null,
    ticketRequired: parsed.ticket === '1',
    ...(parsed.verification === undefined ? {} : { verification: parsed.verification }),
    ...shopData(parsed),
  };
}

function toSku({ sku, name, ...ofShop }: SaleHash['skus'][number], hashes: SaleHashes): Sale['skus'][number] {
  const limit = hashes.sale[`limit:${sku}`];
  return {
    sku,
    name,
    ...shopData(ofShop),
    unitPrice: int.parse(hashes.sale[`price:${sku}`]),
    limitPerUser: limit === undefined ? null : int.parse(limit),
    ...(hashes.sale[`off:${sku}`] === undefined ? {} : { calledOff: true as const }),
    total: countOf(hashes, sku, 'total'),
  };
}

function countOf({ stock }: SaleHashes, sku: string, field: string): number {
  return int.parse(stock[`${sku}:${field}`]);
}
