/** The step that compares Redis with MySQL, sale by sale, and corrects what differs and stays so. */

import { setTimeout as delay } from 'node:timers/promises';
import { limitField, parseLimitField, returnMark } from '../redis/keys.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';
import type { DriftEntry, Missed } from './drift-board.redis.ts';
import { hasLostFreeOrder } from './free-orders.ts';
import { type HeldCart, type SaleLooked, LookOverError, type HeldWalk } from './mends.redis.ts';
import { rebuildSale, type RebuildDeps } from './rebuild-sale.ts';
import type { SaleBooks, BookedState } from './sale-books.sql.ts';

// Compares a sale in Redis and MySQL, and says what differs. What is on its way from one to the other is no
// difference: MySQL is read after Redis, and each order that it has moved on since is known by its number.

/** Units by SKU. */
type Units = ReadonlyMap<string, number>;

interface Compared {
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

type Difference =
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
function nameOf(difference: Difference): string {
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

function compareSale(compared: Compared): Difference[] {
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

function addUnits(sums: Map<string, number>, lines: readonly { sku: string; quantity: number }[]): void {
  for (const { sku, quantity } of lines) sums.set(sku, (sums.get(sku) ?? 0) + quantity);
}

// One look at a sale in both stores: what Redis held and counted at one moment, and what MySQL has booked
// at one moment after it. It is read page by page, so that no store works for long, however many are held.

/** Missing holds that one run writes again. The counters are judged by all that are missing. */
const MISSING_MAX = 1_000;

type Look = { kind: 'compared'; compared: Compared } | { kind: 'skipped'; why: string };

const skipped = (why: string): Look => ({ kind: 'skipped', why });

/** Limits whose values are compared too. */
interface LimitsToLookAt {
  fields: readonly string[];
  /**
   * few: as many as one script reads, at the moment of the look. many: read after it, page by page. One that
   * changed in between may seem to differ.
   */
  are: 'few' | 'many';
}

/** @returns skipped: the stores cannot be compared now, say because the sale is being made again */
async function lookAtSale(
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

// Finds drift: what Redis and MySQL count differently, though nothing is on its way. A difference counts
// only when several looks see the very same. What is provably wrong is corrected by the difference, while
// the sale goes on, with before and after in the log of actions; the rest is parked.

/** One look could be misled by an order that was accepted long ago and is restored just now. */
const LOOKS = 3;
/** Between two looks: longer than the steps of such an order take. */
const LOOK_PAUSE_MS = 500;
/**
 * A hold is written again within this time of looking at the clock, or not at all. It is less than the time
 * after which MySQL ends an idle transaction (`connection.ts`), so the order's row is locked until then.
 */
const RESTORE_WITHIN_MS = 5_000;
/** Lines of orders, and limits, in one page: about a millisecond of Redis. */
const LIMITS_AT_ONCE = 1_000;
/** Pages of each in one run: the limits of 300,000 orders are compared in eight runs. */
const LIMIT_PAGES_MAX = 40;
/** A run begins no look after so long: one of a million holds takes minutes, and the step has five. */
const LOOKS_BEGIN_MS = 150_000;
const NOT_BEGUN = 'the run had no time left for it';
/** Limits in doubt that are looked at with the stock, at one moment: about a millisecond of Redis. */
const DOUBTED_MAX = 500;

export async function mendDrift(deps: RebuildDeps, signal: AbortSignal): Promise<StepReport> {
  const { holds, driftBoard, repairs, log } = deps;
  const report = { looked: 0, repaired: 0, parked: 0 };
  const entries: DriftEntry[] = [];
  const failures: unknown[] = [];
  /** When each sale was last compared whole, and those that are left out. */
  const comparedAtMs = new Map<string, number>();
  const missed = new Map<string, Missed>();
  // One that cannot be read is written anew.
  const former = await driftBoard.read().catch((error: unknown) => {
    log.warn({ err: error }, 'what the run before has found cannot be read');
    return undefined;
  });
  const untilMs = performance.now() + LOOKS_BEGIN_MS;
  const lastOf = (saleId: string) => former?.sales?.[saleId] ?? former?.lookedAtMs ?? 0;
  const leaveOut = (saleId: string, why: string) => {
    comparedAtMs.set(saleId, lastOf(saleId));
    const before = former?.missed?.[saleId];
    // A run that has not looked at the sale says nothing of it: it stays parked or not.
    const now = why === NOT_BEGUN ? before : { runs: (before?.runs ?? 0) + 1, why };
    if (now) missed.set(saleId, now);
  };
  // What a run has no time for comes first in the next.
  const sales = (await holds.listShards()).toSorted((a, b) => lastOf(a.saleId) - lastOf(b.saleId));
  for (const { saleId } of sales) {
    if (signal.aborted) return report;
    try {
      const found = await findDrift(deps, saleId, { untilMs, signal });
      if (found.kind === 'skipped') {
        // What is left in Redis of a sale that is long over need not be whole.
        if (!(await deps.sales.isWatched(saleId))) continue;
        log.warn({ saleId, why: found.why }, 'the stores could not be compared for a sale');
        leaveOut(saleId, found.why);
        continue;
      }
      const { compared, differences } = found;
      comparedAtMs.set(saleId, Date.now());
      report.looked += compared.books.skus.length + compared.fields.length;
      for (const difference of differences) {
        const seen = toEntries(saleId, difference);
        log.error({ saleId, kind: difference.kind, found: seen }, 'drift: the stores count differently');
        entries.push(...seen);
      }
      if (!(await isOfFreeOrders(deps, saleId, differences, signal)))
        await repairAll(deps, saleId, compared, differences, report);
      await repairs.unparkSales(saleId, rightSkus(compared, differences));
    } catch (error) {
      if (signal.aborted) throw error;
      // The data of one sale must not keep the others from being compared.
      failures.push(error);
      log.warn({ err: error, saleId }, 'a sale could not be compared');
      leaveOut(saleId, 'the comparison fails: the log says why');
    }
  }
  const lookedAtMs = Math.min(Date.now(), ...comparedAtMs.values());
  await driftBoard.publish({
    lookedAtMs,
    entries,
    sales: Object.fromEntries(comparedAtMs),
    missed: Object.fromEntries(missed),
  });
  report.parked += await repairs.showNotCompared(missed);
  if (failures.length > 0)
    throw new Error(`${failures.length} sales could not be compared`, { cause: failures[0] });
  return report;
}

type Drift =
  | { kind: 'found'; compared: Compared; differences: Difference[] }
  | Extract<Look, { kind: 'skipped' }>;

const NO_TIME: Drift = { kind: 'skipped', why: 'the run had no time to look again' };

/** Looks several times, and returns the differences that all looks saw, as the last one saw them. */
async function findDrift(
  deps: RebuildDeps,
  saleId: string,
  { untilMs, signal }: { untilMs: number; signal: AbortSignal },
): Promise<Drift> {
  if (performance.now() > untilMs) return { kind: 'skipped', why: NOT_BEGUN };
  const limits = { fields: await listFields(deps, saleId), are: 'many' } as const;
  let first = await lookAtSale(deps, saleId, limits, signal);
  // A change of the sale takes less, and most rebuilds.
  for (let looks = 1; looks < LOOKS && first.kind === 'skipped'; looks += 1) {
    if (performance.now() > untilMs) return NO_TIME;
    await delay(LOOK_PAUSE_MS, undefined, { signal });
    first = await lookAtSale(deps, saleId, limits, signal);
  }
  if (first.kind === 'skipped') return first;
  let { compared } = first;
  let differences = compareSale(compared);
  for (let looks = 1; looks < LOOKS && differences.length > 0; looks += 1) {
    if (performance.now() > untilMs) return NO_TIME;
    await delay(LOOK_PAUSE_MS, undefined, { signal });
    const inDoubt = differences.flatMap((difference) =>
      difference.kind === 'limit' ? [difference.field] : [],
    );
    const few = { fields: inDoubt.slice(0, DOUBTED_MAX), are: 'few' } as const;
    const next = await lookAtSale(deps, saleId, few, signal);
    if (next.kind === 'skipped') return next;
    ({ compared } = next);
    const before = new Set(differences.map(nameOf));
    differences = compareSale(compared).filter((difference) => before.has(nameOf(difference)));
  }
  return { kind: 'found', compared: differences.length > 0 ? compared : first.compared, differences };
}

/** The next limits to compare: of what users ordered, and of what Redis counts. Each walk goes round. */
async function listFields(deps: RebuildDeps, saleId: string): Promise<string[]> {
  const fields = new Set<string>();
  for await (const page of listOrdered(deps, saleId)) for (const field of page) fields.add(field);
  for await (const page of listCounted(deps, saleId)) for (const field of page) fields.add(field);
  return [...fields];
}

async function* listOrdered({ saleBooks, cursors }: RebuildDeps, saleId: string): AsyncGenerator<string[]> {
  const walk = `limits ordered ${saleId}`;
  let after = await cursors.read(walk);
  for (let pages = 0; pages < LIMIT_PAGES_MAX; pages += 1) {
    const page = await saleBooks.listOrdered(saleId, after ?? '', LIMITS_AT_ONCE);
    yield page.map(({ sku, userId }) => limitField(sku, userId));
    // The last order of a full page may have lines beyond it, so the next page begins with it.
    const last = page.length === LIMITS_AT_ONCE ? page.at(-1)?.orderNo : undefined;
    after = last && page.findLast(({ orderNo }) => orderNo !== last)?.orderNo;
    await cursors.save(walk, after);
    if (after === undefined) return;
  }
}

async function* listCounted({ saleMends, cursors }: RebuildDeps, saleId: string): AsyncGenerator<string[]> {
  const walk = `limits counted ${saleId}`;
  let cursor = (await cursors.read(walk)) ?? '0';
  for (let pages = 0; pages < LIMIT_PAGES_MAX; pages += 1) {
    const page = await saleMends.scanLimits(saleId, cursor, LIMITS_AT_ONCE);
    yield page.fields;
    ({ cursor } = page);
    await cursors.save(walk, cursor === '0' ? undefined : cursor);
    if (cursor === '0') return;
  }
}

/** Units that Redis alone counts as sold are of a free order that comes back: a later run looks again. */
async function isOfFreeOrders(
  deps: RebuildDeps,
  saleId: string,
  differences: readonly Difference[],
  signal: AbortSignal,
): Promise<boolean> {
  const isLess = differences.some((it) => it.kind === 'stock' && it.expected.sold < it.found.sold);
  return isLess && hasLostFreeOrder(deps, saleId, signal);
}

async function repairAll(
  deps: RebuildDeps,
  saleId: string,
  compared: Compared,
  differences: readonly Difference[],
  report: { repaired: number; parked: number },
): Promise<void> {
  let { mends } = compared.look;
  if (differences.some(({ kind }) => kind === 'lost')) {
    // No difference is to be added to what is not there.
    const request = { cause: 'lost' as const, reason: 'a SKU has no counters in Redis' };
    if ((await rebuildSale(deps, saleId, request)).kind === 'rebuilt') report.repaired += 1;
    return;
  }
  for (const difference of differences) {
    const outcome = await repair(deps, saleId, { ...compared.look, mends }, difference);
    if (outcome === 'parked') report.parked += 1;
    if (outcome === 'repaired') report.repaired += 1;
    if (outcome === 'repaired' && (difference.kind === 'stock' || difference.kind === 'limit')) mends += 1;
  }
}

/** moved: the sale's data were made again, or another process was first. A later run looks again. */
async function repair(
  deps: RebuildDeps,
  saleId: string,
  { epoch, changeNo, mends }: Compared['look'],
  difference: Difference,
): Promise<'repaired' | 'parked' | 'moved'> {
  const { saleMends, saleBooks, repairs } = deps;
  switch (difference.kind) {
    case 'lost':
      return 'moved';
    case 'counters': {
      const outcome = await saleBooks.correctCounters(saleId, difference.sku);
      if (outcome.kind !== 'unexplained') return outcome.kind === 'corrected' ? 'repaired' : 'moved';
      await repairs.parkSale(saleId, difference.sku, outcome.detail);
      return 'parked';
    }
    case 'hold': {
      const { orderNo: subject } = difference;
      // Before the lock is taken, so that the lock outlasts the bound.
      const untilMs = (await saleMends.readTimeMs(saleId)) + RESTORE_WITHIN_MS;
      const before = await saleBooks.whileOpen(subject, ({ order, state }) =>
        saleMends.restoreHold(order, state, { epoch, untilMs }),
      );
      if (before === undefined) return 'moved';
      await repairs.record({ action: 'hold_restored', subject, before, after: 'held' });
      return 'repaired';
    }
    case 'stock': {
      const { sku, found, expected } = difference;
      // What MySQL counts as unsold may be of an order that it has lost, and that is paid for.
      if (expected.available > found.available && (await repairs.hasLostCommits())) {
        await repairs.parkSale(
          saleId,
          sku,
          'MySQL has lost commits, and Redis counts fewer units as available',
        );
        return 'parked';
      }
      const heldDelta = expected.held - found.held;
      const soldDelta = expected.sold - found.sold;
      const mend = { saleId, sku, epoch, mends, changeNo, total: expected.total, heldDelta, soldDelta };
      if ((await saleMends.mendStock(mend)).kind === 'moved') return 'moved';
      const subject = `sale ${saleId} ${sku}`;
      await repairs.record({ action: 'stock_corrected', subject, before: found, after: expected });
      return 'repaired';
    }
    case 'limit': {
      const { field, found: before, expected: after } = difference;
      if (after < before && (await repairs.hasLostCommits())) return 'moved';
      const outcome = await saleMends.mendLimit({ saleId, field, epoch, mends, delta: after - before });
      if (outcome.kind === 'moved') return 'moved';
      // Without the user, whose name must not stay in the log for good.
      await repairs.record({
        action: 'limit_corrected',
        subject: `sale ${saleId} ${parseLimitField(field).sku}`,
        before,
        after,
      });
      return 'repaired';
    }
    default:
      return difference satisfies never;
  }
}

/** Those whose counters are the sums of the ledger, and of whose stock both stores have the same. */
function rightSkus({ books }: Compared, differences: readonly Difference[]): string[] {
  const off = new Set(differences.flatMap((found) => (found.kind === 'stock' ? [found.sku] : [])));
  return books.skus.flatMap(({ sku, counted, booked }) =>
    counted.held === booked.held && counted.sold === booked.sold && !off.has(sku) ? [sku] : [],
  );
}

function toEntries(saleId: string, difference: Difference): DriftEntry[] {
  switch (difference.kind) {
    case 'hold':
      return [{ saleId, sku: '', what: 'hold', units: 1 }];
    case 'lost':
    case 'counters':
      return [{ saleId, sku: difference.sku, what: difference.kind, units: 1 }];
    case 'limit': {
      const { field, found, expected } = difference;
      return [{ saleId, sku: parseLimitField(field).sku, what: 'limit', units: found - expected }];
    }
    case 'stock': {
      const { sku, found, expected } = difference;
      return (['total', 'available', 'held', 'sold'] as const).flatMap((what) =>
        found[what] === expected[what] ? [] : [{ saleId, sku, what, units: found[what] - expected[what] }],
      );
    }
    default:
      return difference satisfies never;
  }
}
