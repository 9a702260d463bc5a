/**
 * Reads the orders that a sale held at the moment of a look, page by page, while it goes on: those that are
 * still held, and from the look's notes (`moves`) those whose holds have ended since. It is how a database is
 * copied while it is written: pages of different moments, and the log of what happened meanwhile.
 */

import { z } from 'zod';
import type { RedisClient } from './connection.ts';
import { isAfter, listHeldAfter, type HeldOrder } from './holds.ts';
import { saleKeys, wholeSale } from './keys.ts';
import { lookUpOrders } from './order-scripts.ts';
import { itemsJson, type lookSaleReply } from './replies.ts';
import { run } from './script-call.ts';

/** Orders read by one script: about a millisecond of Redis, five where it loses its core meanwhile. */
const PAGE_SIZE = 250;
/** Notes read by one command. */
const MOVES_AT_ONCE = 1_000;
/** How long the notes are kept without a page. What a dead process leaves is some megabytes at the worst. */
export const MOVES_TTL_MS = 60_000;

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
  .tuple([z.string(), itemsJson, int, int])
  .transform(([userId, items, reservedAtMs, windowMs]) => ({
    cart: { userId, items } satisfies HeldCart,
    reservedAtMs,
    deadlineMs: reservedAtMs + windowMs,
  }));
type Held = z.infer<typeof held>;
const FIELDS = ['user_id', 'items', 'reserved_at', 'payment_window'].map((field) => ({ field }));

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
      const reply = await run(redis, lookUpOrders, {
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
