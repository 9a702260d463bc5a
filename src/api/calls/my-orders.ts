/** A shopper's own orders: by number, of a sale or a day, and those that a refusal names. */

import { z } from 'zod';
import { MAX_SALE_TIME_MS, MIN_SALE_TIME_MS } from '../../limits.ts';
import { saleIdSchema } from '../../orders/content.ts';
import { isFinal, parseOrderNo } from '../../orders/order.ts';
import type { OrderLook, ReservedOrder } from '../../orders/reservations.redis.ts';
import type { StoredOrder } from '../../orders/rows.sql.ts';
import type { UserOrderCursor, UserOrdersSearch } from '../../orders/user-orders.sql.ts';
import { reply } from '../http/answer.ts';
import type { ShopCalls } from '../http/entry.ts';
import { requestIdOf, unavailable } from '../http/problem.ts';
import { nextPage, type OpenOrderReply, orderReply, shownOrderNo } from '../http/replies.ts';
import { pageLimit } from '../http/request.ts';
import { shopCall } from './call.ts';
import { type Asker, CLOCKS_DIFFER_MAX_MS, findOrders, type Finder, viewOrder } from './find-order.ts';

/** Orders in one page of a list: about 100 KiB, and one read of MySQL. */
export const MAX_ORDERS_LISTED = 100;
/** Sales whose open orders are looked for in Redis, for a list of all sales: a call each. */
const SALES_LOOKED_INTO = 50;
const DAY_MS = 24 * 60 * 60 * 1000;

export const ordersReply = z
  .strictObject({
    orders: z.array(orderReply).describe('The orders.'),
    next: nextPage,
    complete: z
      .boolean()
      .meta({ description: 'False: there may be others that cannot be read now.', examples: [true] }),
    unknown: z
      .array(shownOrderNo)
      .exactOptional()
      .describe('Of the numbers that were asked for: those of no order of the caller.'),
  })
  .meta({ id: 'OrderList', description: "A page of the shopper's own orders." });
type OrdersReply = z.infer<typeof ordersReply>;

const orderNumbers = z
  .string()
  .transform((text) => text.split(','))
  .pipe(z.array(z.string().regex(/^[\w-]{1,80}$/)).max(MAX_ORDERS_LISTED));

const listQuery = z
  .strictObject({
    orderNo: orderNumbers.optional().describe('Those of these numbers, with commas between.'),
    saleId: saleIdSchema.optional().describe('Those of this sale.'),
    /** A day in UTC. @returns its beginning, in Unix ms */
    date: z.iso
      .date()
      .transform((day) => Date.parse(day))
      .refine((ms) => ms >= MIN_SALE_TIME_MS && ms < MAX_SALE_TIME_MS, 'a day of this century')
      .optional()
      .describe('Those that were accepted on this day, from midnight to midnight in UTC.'),
    after: z
      .string()
      .transform((text) => parseCursor(text) ?? 'nowhere')
      .refine((place) => place !== 'nowhere', 'the `next` of the page before')
      .optional()
      .describe('Those after the page whose `next` this is.'),
    limit: pageLimit(MAX_ORDERS_LISTED).removeDefault().optional(),
  })
  .refine(
    ({ orderNo, saleId, date }) => [orderNo, saleId ?? date].filter((by) => by !== undefined).length === 1,
    {
      message: 'by orderNo, or else by saleId, by date or by both',
    },
  )
  .refine(({ orderNo, after, limit }) => orderNo === undefined || (after ?? limit) === undefined, {
    path: ['orderNo'],
    message: 'all of them in one answer',
  });
type ListQuery = z.infer<typeof listQuery>;

export const listCalls = {
  'GET /v1/orders': shopCall<Finder>()({
    id: 'listOrders',
    does: "The shopper's own orders: by number, of a sale, or of a day",
    who: 'shopper',
    lane: 'others',
    query: listQuery,
    replies: { 200: ordersReply },
    refuses: {},
    throws: ['status_unavailable'],
    async answer(finder, { query, ctx }) {
      const asker = { userId: ctx.state.userId, requestId: requestIdOf(ctx.req) };
      return reply(
        query.orderNo ? await findByNumber(finder, query.orderNo, asker) : await list(finder, query, asker),
      );
    },
  }),
} satisfies ShopCalls<Finder>;

async function findByNumber(finder: Finder, orderNos: readonly string[], asker: Asker): Promise<OrdersReply> {
  const { orders, unknown, isWhole } = await findOrders(finder, [...new Set(orderNos)], asker);
  const shown = orders.map(({ order, state }) => viewOrder(finder, order, state));
  return { orders: shown, next: null, complete: isWhole, unknown };
}

/** By where an order stands in a list, and its page ends: the same in both stores. */
function compare(one: UserOrderCursor, other: UserOrderCursor): number {
  const { orderNo } = one;
  return (
    one.reservedAtMs - other.reservedAtMs || Number(orderNo > other.orderNo) - Number(orderNo < other.orderNo)
  );
}

/** The stored ones, and those that Redis alone has, as both are now. */
async function list(
  finder: Finder,
  { saleId, date, after, limit = MAX_ORDERS_LISTED }: ListQuery,
  asker: Asker,
): Promise<OrdersReply> {
  const fromMs = date ?? 0;
  const untilMs = date === undefined ? MAX_SALE_TIME_MS : date + DAY_MS;
  const search = { userId: asker.userId, saleId, fromMs, untilMs, after };
  const { open, stored } = await readLists(finder, search, limit);
  const storedNumbers = new Set(stored.map(({ order }) => order.orderNo));
  const others = open.orderNos.filter((orderNo) => !storedNumbers.has(orderNo));
  const looked = others.slice(0, MAX_ORDERS_LISTED);
  const looks = await finder.projection.readAll([...storedNumbers, ...looked], asker.requestId);
  const newest = await Promise.all(
    stored.map((each) => newestOf(finder, each, looks.get(each.order.orderNo), asker.requestId)),
  );
  const isListed = ({ order }: ReservedOrder): boolean =>
    order.userId === asker.userId &&
    order.reservedAtMs >= fromMs &&
    order.reservedAtMs < untilMs &&
    (after === undefined || compare(order, after) > 0);
  const alone = looked.flatMap((orderNo) => {
    const look = looks.get(orderNo);
    return look && look !== 'no-answer' && look.found && isListed(look.found) ? [look.found] : [];
  });
  const found = [...newest, ...alone].toSorted((a, b) => compare(a.order, b.order));
  const page = found.slice(0, limit);
  const last = stored.length === limit || found.length > limit ? page.at(-1) : undefined;
  return {
    orders: page.map(({ order, state }) => viewOrder(finder, order, state)),
    next: last ? formatCursor(last.order) : null,
    complete:
      open.isWhole &&
      looked.length === others.length &&
      looked.every((each) => looks.get(each) !== 'no-answer'),
  };
}

/** @throws Problem 503 while MySQL is away: what it has may be most of the list, and all that is paid */
async function readLists(finder: Finder, search: UserOrdersSearch, limit: number) {
  try {
    // Redis comes first: an order leaves its list only once MySQL has the order.
    const open = await readOpen(finder, search);
    return { open, stored: await finder.userOrders.list(search, limit) };
  } catch (error) {
    throw unavailable('status_unavailable', error);
  }
}

/**
 * The data of a sale that are made again have the open orders that MySQL knows. The others come back with
 * their entries of the outbox.
 */
async function hasAllBack(
  { reservations, saleEpochs, log }: Finder,
  saleIds: readonly string[],
  userId: string,
): Promise<boolean> {
  const rebuilt = await saleEpochs.listRebuilt(saleIds);
  if (!rebuilt.every(({ isSettled }) => isSettled)) return false;
  try {
    const waiting = rebuilt.map(async ({ saleId, rebuiltAtMs }) => {
      const oldestMs = await reservations.readOldestWaitingMs(saleId, userId);
      return oldestMs === undefined || oldestMs > (rebuiltAtMs ?? 0) + CLOCKS_DIFFER_MAX_MS;
    });
    return (await Promise.all(waiting)).every(Boolean);
  } catch (error) {
    log.warn({ err: error }, 'open orders may not be listed: no answer from Redis');
    return false;
  }
}

/** The numbers of the user's open orders, as Redis lists them by their sales. */
async function readOpen(
  finder: Finder,
  { userId, saleId, untilMs }: UserOrdersSearch,
): Promise<{ orderNos: string[]; isWhole: boolean }> {
  const { reservations, sales, log } = finder;
  const saleIds = saleId === undefined ? await sales.listUnsettled(untilMs, SALES_LOOKED_INTO + 1) : [saleId];
  const looked = saleIds.slice(0, SALES_LOOKED_INTO);
  const lists = await Promise.allSettled(looked.map((each) => reservations.readOpenOrders(each, userId)));
  const read = lists.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []));
  const failed = lists.find((each) => each.status === 'rejected');
  if (failed) log.warn({ err: failed.reason as unknown }, 'open orders are not listed: no answer from Redis');
  const isWhole =
    !failed &&
    looked.length === saleIds.length &&
    read.every((each) => each.isWhole) &&
    // After the lists: what comes back later is missing in them.
    (await hasAllBack(finder, looked, userId));
  return {
    orderNos: read.flatMap(({ orderNos }) => orderNos),
    // Redis has no data of a sale that is long over, and MySQL all of its orders.
    isWhole: isWhole || (saleId !== undefined && !(await sales.isWatched(saleId))),
  };
}

/** As a look at this order alone answers it: neither answer is older than the other. */
async function newestOf(
  { projection }: Finder,
  stored: StoredOrder,
  look: OrderLook | 'no-answer' = 'no-answer',
  requestId: string,
): Promise<ReservedOrder> {
  if (look === 'no-answer' || !look.found) return stored;
  const { state } = look.found;
  if (state.version < stored.state.version) await projection.project(stored, requestId);
  return look.isCertain && state.version > stored.state.version ? { ...stored, state } : stored;
}

function formatCursor({ reservedAtMs, orderNo }: UserOrderCursor): string {
  return `${reservedAtMs}.${orderNo}`;
}

function parseCursor(text: string): UserOrderCursor | undefined {
  const [, time, orderNo = ''] = /^(\d{1,13})\.([^.]+)$/.exec(text) ?? [];
  return parseOrderNo(orderNo) ? { reservedAtMs: Number(time), orderNo } : undefined;
}

/**
 * Those of these orders that their projections still show as open: what their shopper needs to go and pay.
 * The list in Redis may have one that has ended, and a refusal asks no other store. So it leaves out what it
 * cannot see, and all of them where projections are known to be doubted.
 */
export async function viewOpenOrders(
  finder: Finder,
  { userId, orderNos }: { userId: string; orderNos: readonly string[] },
): Promise<OpenOrderReply[]> {
  const { reservations, projection, log } = finder;
  if (orderNos.length === 0 || projection.isKnownDoubted()) return [];
  const looks = await Promise.allSettled(orderNos.map(reservations.lookUp));
  return looks.flatMap((look) => {
    if (look.status === 'rejected') {
      log.warn({ err: look.reason as unknown }, 'an open order could not be read for a refusal');
      return [];
    }
    const { found, isCertain } = look.value;
    if (!found || !isCertain || found.order.userId !== userId || isFinal(found.state.status)) return [];
    const { orderNo, status, payment, closing, items, total, currency, deadline } = viewOrder(
      finder,
      found.order,
      found.state,
    );
    return [{ orderNo, status, payment, closing, items, total, currency, deadline }];
  });
}
