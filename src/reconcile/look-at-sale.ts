/**
 * One look at a sale in both stores: what Redis held and counted at one moment, and what MySQL has booked at
 * one moment after it. It is read page by page, so that no store works for long, however many are held.
 */

import type { BookedState, SaleBooks } from '../stores/mysql/upkeep/sale-books.ts';
import type { Stores } from '../stores/open.ts';
import { LookOverError, type HeldCart, type HeldWalk, type SaleLooked } from '../stores/redis/held-walk.ts';
import { parseLimitField, returnMark } from '../stores/redis/keys.ts';
import { addUnits, type Compared } from './compare-sale.ts';

/** Missing holds that one run writes again. The counters are judged by all that are missing. */
const MISSING_MAX = 1_000;

export type Look = { kind: 'compared'; compared: Compared } | { kind: 'skipped'; why: string };

const skipped = (why: string): Look => ({ kind: 'skipped', why });

/** Limits whose values are compared too. */
export interface LimitsToLookAt {
  fields: readonly string[];
  /**
   * few: as many as one script reads, at the moment of the look. many: read after it, page by page. One that
   * changed in between may seem to differ.
   */
  are: 'few' | 'many';
}

/** @returns skipped: the stores cannot be compared now, say because the sale is being made again */
export async function lookAtSale(
  { saleMends, saleBooks }: Stores,
  saleId: string,
  { fields, are }: LimitsToLookAt,
  signal: AbortSignal,
): Promise<Look> {
  const seenAt = await saleMends.look(saleId, are === 'few' ? fields : []);
  if (seenAt.kind !== 'looked') return skipped('its data in Redis are missing, or are being made again');
  const look = are === 'few' ? seenAt : { ...seenAt, limits: await saleMends.readLimits(saleId, fields) };
  const walk = saleMends.walkHeld(saleId, look);
  const users = [...new Set(fields.map((field) => parseLimitField(field).userId))];
  try {
    const seen = await saleBooks.read(saleId, { atMs: look.atMs, users }, async (books): Promise<Look> => {
      if (books.epoch !== look.epoch) return skipped('its epoch in MySQL is another than in Redis');
      // The stores have different totals for a moment.
      if (books.isChanging || books.changeNo !== look.changeNo)
        return skipped('a change of the sale is on its way');
      const returned = await readReturned(saleMends, saleId, look, books);
      const held = await readHeld(walk, books, new Set(users), signal);
      if (!held) return skipped('Redis has an order in part, and MySQL has none');
      // By a clock that was set back, orders of before the look would count as later ones.
      const nowMs = await saleMends.readTimeMs(saleId);
      if (walk.newestMs() > nowMs || books.soldSince.some(({ reservedAtMs }) => reservedAtMs > nowMs))
        return skipped("it has orders of a later time than Redis' clock shows");
      const busy = are === 'few' ? [] : [...held.carts].filter(([orderNo]) => walk.hasEnded(orderNo));
      const busyUsers = new Set(busy.map(([, { userId }]) => userId));
      return { kind: 'compared', compared: { look, books, fields, busyUsers, ...returned, ...held } };
    });
    return seen ?? skipped('MySQL does not have the sale');
  } catch (error) {
    if (error instanceof LookOverError) return skipped(error.message);
    throw error;
  } finally {
    await walk.end();
  }
}

/** What Redis has yet to return, and what it has returned since the look. */
async function readReturned(
  saleMends: Stores['saleMends'],
  saleId: string,
  look: SaleLooked,
  books: SaleBooks,
): Promise<Pick<Compared, 'toReturn' | 'returned' | 'givenBack'>> {
  const toReturn = new Map<string, number>();
  for await (const lines of books.listReturned()) {
    const markOf = ({ orderNo, part }: (typeof lines)[number]) => returnMark(orderNo, 'stock', part);
    const followed = await saleMends.readReturned(saleId, lines.map(markOf));
    addUnits(
      toReturn,
      lines.filter((line) => !followed.has(markOf(line))),
    );
  }
  const marks = books.owned.flatMap(({ orderNo, limitReturned }) =>
    limitReturned.map(({ part }) => returnMark(orderNo, 'limit', part)),
  );
  const returned = await saleMends.readReturned(saleId, [...new Set(marks)]);
  return { toReturn, returned, givenBack: await saleMends.listGivenBackSince(saleId, look.stock) };
}

/** Undefined: what a held order takes is not known. The step that walks the holds parks it. */
async function readHeld(
  walk: HeldWalk,
  books: SaleBooks,
  users: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<Pick<Compared, 'held' | 'soldOfHeld' | 'carts' | 'missing'> | undefined> {
  const held = new Map<string, number>();
  const soldOfHeld = new Map<string, number>();
  const open = new Map<string, number>();
  const carts = new Map<string, HeldCart>();
  const missing: string[] = [];
  /** Listed as held, and Redis has not what they take. */
  const incomplete = new Set<string>();

  const count = (orderNo: string, cart: HeldCart, booked: BookedState | undefined): void => {
    addUnits(held, cart.items);
    if (booked === 'sold') addUnits(soldOfHeld, cart.items);
    if (booked === 'open') addUnits(open, cart.items);
    if (users.has(cart.userId)) carts.set(orderNo, cart);
  };

  for await (const page of walk.pages()) {
    signal.throwIfAborted();
    const booked = await books.readBooked(page.map(({ orderNo }) => orderNo));
    for (const { orderNo, cart } of page) {
      if (cart) count(orderNo, cart, booked.get(orderNo));
      else incomplete.add(orderNo);
    }
    const unknown = page.filter(({ cart }) => !cart).map(({ orderNo }) => orderNo);
    if ((await books.readStored(unknown)).size < unknown.length) return undefined;
  }
  // Where MySQL counts as many units of open orders as Redis holds of them, none is missing.
  if (incomplete.size === 0 && books.skus.every(({ sku, booked }) => booked.held === (open.get(sku) ?? 0)))
    return { held, soldOfHeld, carts, missing };

  for await (const page of books.listOpen()) {
    signal.throwIfAborted();
    const notHeld = new Set(await walk.filterNotHeld(page));
    const gone = page.filter((orderNo) => notHeld.has(orderNo) || incomplete.has(orderNo));
    for (const { order } of await books.readOrders(gone)) {
      count(order.orderNo, order, 'open');
      if (missing.length < MISSING_MAX) missing.push(order.orderNo);
    }
  }
  return { held, soldOfHeld, carts, missing };
}
