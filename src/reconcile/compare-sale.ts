/**
 * Compares a sale in Redis and MySQL, and says what differs. What is on its way from one to the other is no
 * difference: MySQL is read after Redis, and each order that it has moved on since is known by its number.
 */

import type { OrderItem } from '../domain/order.ts';
import type { BookedLine, SaleBooks } from '../stores/mysql/upkeep/sale-books.ts';
import { limitField, parseLimitField, returnMark } from '../stores/redis/keys.ts';
import type { HeldCart, SaleLook } from '../stores/redis/sale-mends.ts';

export interface Compared {
  look: Extract<SaleLook, { kind: 'looked' }>;
  books: SaleBooks & { returned: NonNullable<SaleBooks['returned']> };
  /** What the held orders take, and those that are missing in Redis, by orderNo. */
  carts: ReadonlyMap<string, HeldCart>;
  /** Orders that are open in MySQL and not held in Redis. */
  missing: ReadonlySet<string>;
  /** Marks of what has gone back in Redis. */
  returned: ReadonlySet<string>;
  /** SKUs of which something came back after the look: their marks are newer than the look. */
  givenBack: ReadonlySet<string>;
  /** The fields of the limits whose values the look has, in its order. */
  fields: readonly string[];
}

interface Stock {
  total: number;
  available: number;
  held: number;
  sold: number;
}

export type Difference =
  /** An order is open in MySQL, and Redis does not hold its units. */
  | { kind: 'hold'; orderNo: string }
  /** Redis' counters of a SKU are not what its holds and MySQL's books add up to. */
  | { kind: 'stock'; sku: string; found: Stock; expected: Stock }
  /** Redis has no counters of a SKU. */
  | { kind: 'lost'; sku: string }
  /** A user is counted to have more or fewer units than they hold or own. */
  | { kind: 'limit'; field: string; found: number; expected: number }
  /** MySQL's counters of a SKU are not the sums of its ledger. */
  | { kind: 'counters'; sku: string; found: string; expected: string };

type Of<Kind extends Difference['kind']> = Extract<Difference, { kind: Kind }>;

/** Equal differences have equal names, whatever else goes on in the sale. */
export function nameOf(difference: Difference): string {
  switch (difference.kind) {
    case 'hold':
      return `hold ${difference.orderNo}`;
    case 'stock': {
      const { sku, found, expected } = difference;
      const off = [found.total - expected.total, found.held - expected.held, found.sold - expected.sold];
      return `stock ${sku} ${off.join(' ')} ${found.total - found.available - found.held - found.sold}`;
    }
    case 'limit':
      return `limit ${difference.field} ${difference.found - difference.expected}`;
    case 'lost':
    case 'counters':
      return `${difference.kind} ${difference.sku}`;
    default:
      return difference satisfies never;
  }
}

/** Open orders that Redis does not have on its list of held ones, or whose hash it has lost. */
export function findMissing({
  look,
  books,
  carts,
}: Pick<Compared, 'look' | 'carts'> & { books: SaleBooks }): Set<string> {
  const held = new Set(look.held);
  return new Set([...books.open].filter((orderNo) => !held.has(orderNo) || !carts.has(orderNo)));
}

/** What Redis counts of each SKU. */
const COUNTS = ['total', 'available', 'held', 'sold'];

export function compareSale(compared: Compared): Difference[] {
  const { books, missing } = compared;
  const counters = books.skus.flatMap(({ sku, counted, booked }): Of<'counters'>[] =>
    counted.held === booked.held && counted.sold === booked.sold
      ? []
      : [
          {
            kind: 'counters',
            sku,
            found: `${counted.held} held, ${counted.sold} sold`,
            expected: `${booked.held} held, ${booked.sold} sold`,
          },
        ],
  );
  const holds = [...missing].map((orderNo): Difference => ({ kind: 'hold', orderNo }));
  // What MySQL counts is believed about Redis only where MySQL agrees with itself, and marks only where they
  // are as old as the look. What cannot be judged now is judged by the next run.
  const doubted = new Set([...counters.map(({ sku }) => sku), ...compared.givenBack]);
  const stock = compareStock(compared).filter(({ sku }) => !doubted.has(sku));
  const limits = compareLimits(compared).filter(({ field }) => !doubted.has(parseLimitField(field).sku));
  const lost = books.skus
    .filter(({ sku }) => isLost(compared, sku))
    .map(({ sku }): Of<'lost'> => ({ kind: 'lost', sku }));
  return [...counters, ...lost, ...holds, ...stock, ...limits];
}

function isLost({ look }: Pick<Compared, 'look'>, sku: string): boolean {
  return COUNTS.some((count) => !look.stock.has(`${sku}:${count}`));
}

function compareStock(compared: Compared): Of<'stock'>[] {
  const { look, books } = compared;
  const heldOrders = heldOf(compared);
  const held = sumUnits(heldOrders.flatMap(([, { items }]) => items));
  // Sold in MySQL, and their holds have not ended in Redis yet.
  const soldOfHeld = sumUnits(
    heldOrders.flatMap(([orderNo, { items }]) => (books.soldOfHeld.has(orderNo) ? items : [])),
  );
  const soldSince = sumUnits(books.soldSince);
  const toReturn = sumUnits(
    books.returned.filter(({ orderNo, part }) => !compared.returned.has(returnMark(orderNo, 'stock', part))),
  );
  return books.skus.flatMap(({ sku, total, counted }) => {
    const count = (field: string) => look.stock.get(`${sku}:${field}`) ?? Number.NaN;
    if (isLost(compared, sku)) return [];
    const units = (sums: Map<string, number>) => sums.get(sku) ?? 0;
    const sold = counted.sold - units(soldOfHeld) - units(soldSince) + units(toReturn);
    const expected = { total, available: total - units(held) - sold, held: units(held), sold };
    const found = {
      total: count('total'),
      available: count('available'),
      held: count('held'),
      sold: count('sold'),
    };
    const isEqual =
      found.total === expected.total &&
      found.available === expected.available &&
      found.held === expected.held &&
      found.sold === expected.sold;
    return isEqual ? [] : [{ kind: 'stock', sku, found, expected }];
  });
}

function compareLimits(compared: Compared): Of<'limit'>[] {
  const { look, fields } = compared;
  const has = ownedUnits(compared);
  return fields.flatMap((field, i): Of<'limit'>[] => {
    const [found, expected] = [look.limits[i] ?? 0, has.get(field) ?? 0];
    return found === expected ? [] : [{ kind: 'limit', field, found, expected }];
  });
}

/** What users held or owned at the moment of the look, by the field of the limits that counts it. */
function ownedUnits(compared: Omit<Compared, 'fields'>): Map<string, number> {
  const units = new Map<string, number>();
  const add = (field: string, quantity: number) => units.set(field, (units.get(field) ?? 0) + quantity);
  const heldOrders = heldOf(compared);
  const held = new Set(heldOrders.map(([orderNo]) => orderNo));
  for (const [, { userId, items }] of heldOrders) {
    for (const { sku, quantity } of items) add(limitField(sku, userId), quantity);
  }
  for (const { orderNo, userId, reservedAtMs, limitReturned, sku, quantity } of compared.books.owned) {
    const back = limitReturned
      .filter(({ part }) => compared.returned.has(returnMark(orderNo, 'limit', part)))
      .reduce((sum, returned) => sum + returned.quantity, 0);
    if (!held.has(orderNo) && reservedAtMs < compared.look.atMs && back < quantity) {
      add(limitField(sku, userId), quantity - back);
    }
  }
  return units;
}

/** The held orders, with those that are missing in Redis and are to be held. */
function heldOf({ look, carts, missing }: Omit<Compared, 'fields'>): [string, HeldCart][] {
  const orderNos = new Set([...look.held, ...missing]);
  return [...orderNos].flatMap((orderNo) => {
    const cart = carts.get(orderNo);
    return cart ? [[orderNo, cart] satisfies [string, HeldCart]] : [];
  });
}

function sumUnits(lines: readonly (Pick<OrderItem, 'sku' | 'quantity'> | BookedLine)[]): Map<string, number> {
  const sums = new Map<string, number>();
  for (const { sku, quantity } of lines) sums.set(sku, (sums.get(sku) ?? 0) + quantity);
  return sums;
}
