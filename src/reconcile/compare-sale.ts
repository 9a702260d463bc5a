/**
 * Compares a sale in Redis and MySQL, and says what differs. What is on its way from one to the other is no
 * difference: MySQL is read after Redis, and each order that it has moved on since is known by its number.
 */

import type { SaleBooks } from '../stores/mysql/upkeep/sale-books.ts';
import type { HeldCart, SaleLooked } from '../stores/redis/held-walk.ts';
import { limitField, parseLimitField, returnMark } from '../stores/redis/keys.ts';

/** Units by SKU. */
type Units = ReadonlyMap<string, number>;

export interface Compared {
  look: SaleLooked;
  books: SaleBooks;
  /** Of all orders that Redis holds, and of those that it is to hold. */
  held: Units;
  /** Those of them that are sold in MySQL, and whose holds have not ended in Redis yet. */
  soldOfHeld: Units;
  /** Put back on sale in MySQL, and not yet in Redis. */
  toReturn: Units;
  /** What these orders of the users of `fields` take, by orderNo. */
  carts: ReadonlyMap<string, HeldCart>;
  /** Orders that are open in MySQL and not held in Redis: as many as one run mends. */
  missing: readonly string[];
  /** Marks of the limits that have gone back in Redis. */
  returned: ReadonlySet<string>;
  /** SKUs of which something came back after the look: their marks are newer than the look. */
  givenBack: ReadonlySet<string>;
  /** The fields of the limits whose values the look has, in its order. */
  fields: readonly string[];
  /** Users whose limits were read after the look, and may have changed in between. */
  busyUsers: ReadonlySet<string>;
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
  const holds = missing.map((orderNo): Difference => ({ kind: 'hold', orderNo }));
  // What MySQL counts is believed about Redis only where MySQL agrees with itself, and marks only where they
  // are as old as the look. What cannot be judged now is judged by the next run.
  const doubted = new Set([...counters.map(({ sku }) => sku), ...compared.givenBack]);
  const stock = compareStock(compared).filter(({ sku }) => !doubted.has(sku));
  const limits = compareLimits(compared).filter(({ field }) => {
    const { sku, userId } = parseLimitField(field);
    return !doubted.has(sku) && !compared.busyUsers.has(userId);
  });
  const lost = books.skus
    .filter(({ sku }) => isLost(compared, sku))
    .map(({ sku }): Of<'lost'> => ({ kind: 'lost', sku }));
  return [...counters, ...lost, ...holds, ...stock, ...limits];
}

function isLost({ look }: Pick<Compared, 'look'>, sku: string): boolean {
  return COUNTS.some((count) => !look.stock.has(`${sku}:${count}`));
}

function compareStock(compared: Compared): Of<'stock'>[] {
  const { look, books, held, soldOfHeld, toReturn } = compared;
  const soldSince = new Map<string, number>();
  addUnits(soldSince, books.soldSince);
  return books.skus.flatMap(({ sku, total, counted }) => {
    const count = (field: string) => look.stock.get(`${sku}:${field}`) ?? Number.NaN;
    if (isLost(compared, sku)) return [];
    const units = (sums: Units) => sums.get(sku) ?? 0;
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
  for (const { userId, items } of compared.carts.values()) {
    for (const { sku, quantity } of items) add(limitField(sku, userId), quantity);
  }
  for (const { orderNo, userId, reservedAtMs, limitReturned, sku, quantity } of compared.books.owned) {
    const back = limitReturned
      .filter(({ part }) => compared.returned.has(returnMark(orderNo, 'limit', part)))
      .reduce((sum, returned) => sum + returned.quantity, 0);
    if (!compared.carts.has(orderNo) && reservedAtMs < compared.look.atMs && back < quantity) {
      add(limitField(sku, userId), quantity - back);
    }
  }
  return units;
}

export function addUnits(
  sums: Map<string, number>,
  lines: readonly { sku: string; quantity: number }[],
): void {
  for (const { sku, quantity } of lines) sums.set(sku, (sums.get(sku) ?? 0) + quantity);
}
