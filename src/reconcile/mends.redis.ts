/** What a comparison of a sale with MySQL reads in Redis, and the corrections that follow from it. */

import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Order } from '../orders/content.ts';
import type { OrderState } from '../orders/order.ts';
import { lookUpOrdersScript } from '../orders/reservations.redis.ts';
import { toOrderFields, itemsJson, MYSQL_ORDER } from '../orders/reserve.redis.ts';
import type { RedisClient } from '../redis/connection.ts';
import { saleKeys, wholeSale, orderKeys } from '../redis/keys.ts';
import { run, defineScript, textsJson, replyInt } from '../redis/script.ts';
import { serverTimeScript } from '../sales/stock.redis.ts';
import { isAfter, listHeldAfter, type HeldOrder } from './holds.redis.ts';

export const lookSaleReply = z.union([
  z
    .tuple([
      z.literal('looked'),
      replyInt,
      replyInt,
      replyInt,
      replyInt,
      textsJson,
      textsJson,
      textsJson,
      replyInt,
    ])
    .transform(([kind, atMs, epoch, changeNo, mends, stock, limits, tied, lastDeadlineMs]) => ({
      kind,
      atMs,
      epoch,
      changeNo,
      mends,
      stock: new Map(
        stock.flatMap((field, i) => (i % 2 === 0 ? [[field, Number(stock[i + 1])] as const] : [])),
      ),
      limits: limits.map(Number),
      tied,
      lastDeadlineMs,
    })),
  z.tuple([z.literal('not-at-rest')]).transform(([kind]) => ({ kind })),
]);

export const mendStockReply = z.union([
  z
    .tuple([z.literal('mended'), replyInt, replyInt, replyInt])
    .transform(([kind, available, held, sold]) => ({ kind, available, held, sold })),
  z.tuple([z.literal('moved')]).transform(([kind]) => ({ kind })),
]);

export const mendLimitReply = z.union([
  z.tuple([z.literal('mended'), replyInt]).transform(([kind, units]) => ({ kind, units })),
  z.tuple([z.literal('moved')]).transform(([kind]) => ({ kind })),
]);

export const restoreHoldReply = z.union([
  z.tuple([z.literal('restored'), z.string()]).transform(([kind, before]) => ({ kind, before })),
  z.tuple([z.literal('moved')]).transform(([kind]) => ({ kind })),
]);

export const lookSaleScript = defineScript({
  file: 'look-sale',
  keys: ['sale', 'stock', 'limits', 'deadlines', 'moves'],
  args: ['lookId', 'movesTtlMs'],
  repeated: ['field'],
  reply: lookSaleReply,
});

export const mendStockScript = defineScript({
  file: 'mend-stock',
  keys: ['sale', 'stock'],
  args: ['sku', 'epoch', 'mends', 'changeNo', 'total', 'heldDelta', 'soldDelta'],
  reply: mendStockReply,
});

export const mendLimitScript = defineScript({
  file: 'mend-limit',
  keys: ['sale', 'limits'],
  args: ['field', 'epoch', 'mends', 'delta'],
  reply: mendLimitReply,
});

export const restoreHoldScript = defineScript({
  file: 'restore-hold',
  keys: ['sale', 'order', 'deadlines', 'moves', 'open', 'unpaid'],
  args: ['orderNo', 'epoch', 'untilMs', ...MYSQL_ORDER],
  reply: restoreHoldReply,
});

// Reads the orders that a sale held at the moment of a look, page by page, while it goes on: those that are
// still held, and from the look's notes (`moves`) those whose holds have ended since. It is how a database
// is copied while it is written: pages of different moments, and the log of what happened meanwhile.

/** Orders read by one script: about a millisecond of Redis, five where it loses its core meanwhile. */
const PAGE_SIZE = 250;
/** Notes read by one command. */
const MOVES_AT_ONCE = 1_000;
/** How long the notes are kept without a page. What a dead process leaves is some megabytes at the worst. */
const MOVES_TTL_MS = 60_000;

/** What a held order takes. */
export interface HeldCart {
  userId: string;
  items: { sku: string; quantity: number }[];
}

/** Its cart is undefined where Redis does not have it, or not whole. */
interface HeldAtLook {
  orderNo: string;
  cart: HeldCart | undefined;
}

export type SaleLooked = Extract<z.infer<typeof lookSaleReply>, { kind: 'looked' }> & { lookId: string };

/** The look's notes are gone, or its data were made again: nothing more is known of its moment. */
export class LookOverError extends Error {
  override name = 'LookOverError';
}

export type HeldWalk = ReturnType<typeof createHeldWalk>;

/** Lua writes an absent field as false, which is no number. */
const int = z.string().transform(Number).pipe(z.int());
const held = z
  .tuple([z.string(), itemsJson, int, int, z.union([int, z.literal(false)])])
  .transform(([userId, items, reservedAtMs, windowMs, extendedUntilMs]) => ({
    cart: { userId, items } satisfies HeldCart,
    reservedAtMs,
    deadlineMs: extendedUntilMs || reservedAtMs + windowMs,
  }));
type Held = z.infer<typeof held>;
const FIELDS = ['user_id', 'items', 'reserved_at', 'payment_window', 'extended_until'].map((field) => ({
  field,
}));

/** @param look of the sale; there is no later one */
export function createHeldWalk(
  redis: RedisClient,
  saleId: string,
  { lookId, epoch, atMs, tied, lastDeadlineMs }: SaleLooked,
  pageSize = PAGE_SIZE,
) {
  const keys = saleKeys(wholeSale(saleId));
  const ofThatMillisecond = new Set(tied);
  const ended = new Set<string>();
  const begun = new Set<string>();
  let notes = 1;
  let newestMs = 0;

  const isBefore = (orderNo: string, { reservedAtMs }: Held) =>
    reservedAtMs < atMs || (reservedAtMs === atMs && ofThatMillisecond.has(orderNo));

  /** @returns the holds that have ended since the call before, and that had begun before the look */
  async function readMoves(): Promise<string[]> {
    const news: string[] = [];
    for (let isMore = true; isMore;) {
      // In this order: what was read before its first entry is of this look.
      const [page, first] = await Promise.all([
        redis.lrange(keys.moves, notes, notes + MOVES_AT_ONCE - 1),
        redis.lindex(keys.moves, 0),
        redis.pexpire(keys.moves, MOVES_TTL_MS),
      ]);
      if (first !== lookId) throw new LookOverError('another look has begun');
      for (const note of page) {
        // The walk goes by deadlines, and may have had the order or not. Staff extend few.
        if (note.startsWith('>')) throw new LookOverError('a deadline was extended');
        const orderNo = note.startsWith('+') ? note.slice(1) : note;
        if (note !== orderNo) begun.add(orderNo);
        else if (!begun.has(orderNo) && !ended.has(orderNo)) {
          ended.add(orderNo);
          news.push(orderNo);
        }
      }
      notes += page.length;
      isMore = page.length === MOVES_AT_ONCE;
    }
    return news;
  }

  async function readHeld(orderNos: readonly string[]): Promise<Map<string, Held>> {
    const found = new Map<string, Held>();
    for (let from = 0; from < orderNos.length; from += PAGE_SIZE) {
      const page = orderNos.slice(from, from + PAGE_SIZE);
      const reply = await run(redis, lookUpOrdersScript, {
        keys,
        keyList: page.map(keys.order),
        args: {},
        repeated: FIELDS,
      });
      if (reply.epoch !== epoch) throw new LookOverError('the data of the sale were made again');
      for (const [i, fields] of reply.orders.entries()) {
        const { data } = held.safeParse(fields);
        const orderNo = page[i];
        if (!data || orderNo === undefined) continue;
        found.set(orderNo, data);
        newestMs = Math.max(newestMs, data.reservedAtMs);
      }
    }
    return found;
  }

  return {
    /** Each order once. @throws LookOverError */
    async *pages(): AsyncGenerator<HeldAtLook[]> {
      let after: HeldOrder | undefined;
      for (let isLast = lastDeadlineMs === 0; !isLast;) {
        const page = await listHeldAfter(redis, keys.deadlines, pageSize, after);
        const last = page.at(-1);
        isLast = page.length < pageSize || (last?.deadlineMs ?? 0) > lastDeadlineMs;
        const news = await readMoves();
        const listed = new Set(page.map(({ orderNo }) => orderNo));
        const newlyEnded = new Set(news);
        const unlisted = news.filter((orderNo) => !listed.has(orderNo));
        const found = await readHeld([...listed, ...unlisted]);
        const orders: HeldAtLook[] = [];
        for (const orderNo of listed) {
          const order = found.get(orderNo);
          // One that has begun again counts where it had not ended before.
          const isHeldSince = !begun.has(orderNo) || newlyEnded.has(orderNo);
          if (isHeldSince && (!order || isBefore(orderNo, order)))
            orders.push({ orderNo, cart: order?.cart });
        }
        for (const orderNo of unlisted) {
          const order = found.get(orderNo);
          if (!order) throw new LookOverError('an order that has ended cannot be read');
          // One of the pages before had it: it has ended since.
          const isSeen = after && !isAfter({ orderNo, deadlineMs: order.deadlineMs }, after);
          if (!isSeen && isBefore(orderNo, order)) orders.push({ orderNo, cart: order.cart });
        }
        yield orders;
        after = last;
      }
    },

    /**
     * Those of these orders that were not held at the moment of the look, nor are since; after all pages.
     * @throws LookOverError
     */
    async filterNotHeld(orderNos: readonly string[]): Promise<string[]> {
      const deadlines = orderNos.length > 0 ? await redis.zmscore(keys.deadlines, ...orderNos) : [];
      // After the list: an order that left it before is noted.
      await readMoves();
      return orderNos.filter((orderNo, i) => deadlines[i] === null && !ended.has(orderNo));
    },

    /** When the newest order was reserved that was read (Unix ms), be it after the look; 0: none was. */
    newestMs: (): number => newestMs,

    /** After all pages: whether the hold has ended since the look. */
    hasEnded: (orderNo: string): boolean => ended.has(orderNo),

    /** Nothing more is to be noted. */
    async end(): Promise<void> {
      if ((await redis.lindex(keys.moves, 0)) === lookId) await redis.del(keys.moves);
    },
  };
}

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
  const seen = await run(redis, lookSaleScript, {
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
  return run(redis, mendStockScript, { keys: keysOf(saleId), args: mend });
}

/** See `lua/mend-limit.lua`. */
export function mendLimit(
  redis: RedisClient,
  { saleId, ...mend }: LimitMend,
): Promise<z.infer<typeof mendLimitReply>> {
  return run(redis, mendLimitScript, { keys: keysOf(saleId), args: mend });
}

/** By Redis' clock (Unix ms): `restoreHold` is bounded by it. */
export async function readTimeMs(redis: RedisClient, saleId: string): Promise<number> {
  return (await run(redis, serverTimeScript, { keys: keysOf(saleId), args: {} })).nowMs;
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
  const reply = await run(redis, restoreHoldScript, {
    keys: orderKeys(order.orderNo),
    args: { ...toOrderFields(order, state), ...fence },
  });
  return reply.kind === 'restored' ? reply.before : undefined;
}
