/** What a comparison of a sale with MySQL reads in Redis, and the corrections that follow from it. */

import { randomUUID } from 'node:crypto';
import type { z } from 'zod';
import type { Order, OrderState } from '../../domain/order.ts';
import type { RedisClient } from './connection.ts';
import { createHeldWalk, MOVES_TTL_MS, type SaleLooked } from './held-walk.ts';
import { orderKeys, saleKeys, wholeSale } from './keys.ts';
import { toOrderFields } from './order-hash.ts';
import type { lookSaleReply, mendLimitReply, mendStockReply } from './replies.ts';
import * as scripts from './sale-scripts.ts';
import { run } from './script-call.ts';

/** Marks or limits asked for by one command: about a millisecond of Redis. */
const MARKS_AT_ONCE = 1_000;

/** How the fields of the stock end that count how often something of a SKU came back. */
const GIVE_BACKS = ':give_backs';

/** See `lua/look-sale.lua`. */
type SaleLook = SaleLooked | Exclude<z.infer<typeof lookSaleReply>, { kind: 'looked' }>;

export interface StockMend {
  saleId: string;
  sku: string;
  epoch: number;
  mends: number;
  changeNo: number;
  total: number;
  heldDelta: number;
  soldDelta: number;
}

export interface LimitMend {
  saleId: string;
  field: string;
  epoch: number;
  mends: number;
  delta: number;
}

const keysOf = (saleId: string) => saleKeys(wholeSale(saleId));

/**
 * The stock and these fields of the limits, both as of one moment; `walkHeld` reads the orders that were
 * held then.
 * @param fields of the limits, as `limitField` (`keys.ts`) makes them
 */
export async function look(redis: RedisClient, saleId: string, fields: readonly string[]): Promise<SaleLook> {
  const lookId = randomUUID();
  const seen = await run(redis, scripts.lookSale, {
    keys: keysOf(saleId),
    args: { lookId, movesTtlMs: MOVES_TTL_MS },
    repeated: fields.map((field) => ({ field })),
  });
  return seen.kind === 'looked' ? { ...seen, lookId } : seen;
}

/** See `createHeldWalk`; within a minute of the look. */
export function walkHeld(redis: RedisClient, saleId: string, looked: SaleLooked) {
  return createHeldWalk(redis, saleId, looked);
}

/** Which of these marks of what orders have given back, as `returnMark` makes them, Redis has. */
export async function readReturned(
  redis: RedisClient,
  saleId: string,
  marks: readonly string[],
): Promise<Set<string>> {
  const returned = new Set<string>();
  for (let from = 0; from < marks.length; from += MARKS_AT_ONCE) {
    const asked = marks.slice(from, from + MARKS_AT_ONCE);
    const found = await redis.smismember(keysOf(saleId).returns, ...asked);
    for (const [i, mark] of asked.entries()) if (found[i] === 1) returned.add(mark);
  }
  return returned;
}

/**
 * The SKUs of which units or allowances have come back since the look that saw this stock. Asked after
 * `readReturned`: of all others the look would have seen the same marks.
 */
export async function listGivenBackSince(
  redis: RedisClient,
  saleId: string,
  stock: ReadonlyMap<string, number>,
): Promise<Set<string>> {
  const now = Object.entries(await redis.hgetall(keysOf(saleId).stock));
  return new Set(
    now.flatMap(([field, count]) =>
      field.endsWith(GIVE_BACKS) && Number(count) !== stock.get(field)
        ? [field.slice(0, -GIVE_BACKS.length)]
        : [],
    ),
  );
}

/** The values of these fields of the limits, 0 where there is none: not of one moment. */
export async function readLimits(
  redis: RedisClient,
  saleId: string,
  fields: readonly string[],
): Promise<number[]> {
  const values: number[] = [];
  for (let from = 0; from < fields.length; from += MARKS_AT_ONCE) {
    const asked = fields.slice(from, from + MARKS_AT_ONCE);
    for (const units of await redis.hmget(keysOf(saleId).limits, ...asked)) values.push(Number(units ?? 0));
  }
  return values;
}

/**
 * Some of the users' limits, by field.
 * @param cursor where the page before ended; '0' begins, and is returned at the end
 */
export async function scanLimits(
  redis: RedisClient,
  saleId: string,
  cursor: string,
  count: number,
): Promise<{ cursor: string; fields: string[] }> {
  const [next, flat] = await redis.hscan(keysOf(saleId).limits, cursor, 'COUNT', count);
  return { cursor: next, fields: flat.filter((_, i) => i % 2 === 0) };
}

/** See `lua/mend-stock.lua`. */
export function mendStock(
  redis: RedisClient,
  { saleId, ...mend }: StockMend,
): Promise<z.infer<typeof mendStockReply>> {
  return run(redis, scripts.mendStock, { keys: keysOf(saleId), args: mend });
}

/** See `lua/mend-limit.lua`. */
export function mendLimit(
  redis: RedisClient,
  { saleId, ...mend }: LimitMend,
): Promise<z.infer<typeof mendLimitReply>> {
  return run(redis, scripts.mendLimit, { keys: keysOf(saleId), args: mend });
}

/** By Redis' clock (Unix ms): `restoreHold` is bounded by it. */
export async function readTimeMs(redis: RedisClient, saleId: string): Promise<number> {
  return (await run(redis, scripts.serverTime, { keys: keysOf(saleId), args: {} })).nowMs;
}

/**
 * Writes the hold of an order again that is open in MySQL.
 * @param fence the epoch in which it was found missing, and until when MySQL keeps the order open
 * @returns what Redis had before; undefined when the sale's data were made again meanwhile, or too late
 */
export async function restoreHold(
  redis: RedisClient,
  order: Order,
  state: OrderState,
  fence: { epoch: number; untilMs: number },
): Promise<string | undefined> {
  const reply = await run(redis, scripts.restoreHold, {
    keys: orderKeys(order.orderNo),
    args: { ...toOrderFields(order, state), ...fence },
  });
  return reply.kind === 'restored' ? reply.before : undefined;
}
