/**
 * Finds drift: what Redis and MySQL count differently, though nothing is on its way. A difference counts only
 * when several looks see the very same. What is provably wrong is corrected by the difference, while the sale
 * goes on, with before and after in the log of actions; the rest is parked.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { rebuildSale, type RebuildDeps } from '../rebuild/rebuild-sale.ts';
import type { Places } from '../stores/mysql/upkeep/places.ts';
import type { Repairs } from '../stores/mysql/upkeep/repairs.ts';
import type { SaleBooksStore } from '../stores/mysql/upkeep/sale-books.ts';
import type { DriftBoard, DriftEntry } from '../stores/redis/drift-board.ts';
import type { Holds } from '../stores/redis/holds.ts';
import { limitField, parseLimitField, returnMark } from '../stores/redis/keys.ts';
import type { SaleMends } from '../stores/redis/sale-mends.ts';
import { compareSale, findMissing, nameOf, type Compared, type Difference } from './compare-sale.ts';
import type { Step } from './report.ts';

/** One look could be misled by an order that was accepted long ago and is restored just now. */
const LOOKS = 3;
/** Between two looks: longer than the steps of such an order take. */
const LOOK_PAUSE_MS = 500;
/**
 * A hold is written again within this time of looking at the clock, or not at all. It is less than the time
 * after which MySQL ends an idle transaction (`session.ts`), so the order's row is locked until then.
 */
const RESTORE_WITHIN_MS = 5_000;
/** Lines of orders, and limits, of whose users the limits are compared in one run: some milliseconds each. */
const LIMITS_AT_ONCE = 1_000;

export interface DriftDeps extends RebuildDeps {
  holds: Pick<Holds, 'listShards'>;
  saleMends: SaleMends;
  saleBooks: SaleBooksStore;
  driftBoard: Pick<DriftBoard, 'publish'>;
  repairs: RebuildDeps['repairs'] & Pick<Repairs, 'record' | 'parkSale' | 'unparkSales' | 'hasLostCommits'>;
  places: Places;
}

export function createDriftStep(deps: DriftDeps): Step {
  const { holds, driftBoard, log } = deps;

  return async (signal) => {
    const report = { looked: 0, repaired: 0, parked: 0 };
    const entries: DriftEntry[] = [];
    const failures: unknown[] = [];
    for (const { saleId } of await holds.listShards()) {
      if (signal.aborted) return report;
      try {
        const { compared, differences } = await findDrift(deps, saleId, signal);
        report.looked += compared ? compared.books.skus.length + compared.fields.length : 0;
        for (const difference of differences) {
          const found = toEntries(saleId, difference);
          log.error({ saleId, kind: difference.kind, found }, 'drift: the stores count differently');
          entries.push(...found);
        }
        if (!compared) continue;
        await repairAll(deps, saleId, compared, differences, report);
        await deps.repairs.unparkSales(saleId, rightSkus(compared, differences));
      } catch (error) {
        // The data of one sale must not keep the others from being compared.
        failures.push(error);
        log.warn({ err: error, saleId }, 'a sale could not be compared');
      }
    }
    await driftBoard.publish({ lookedAtMs: Date.now(), entries });
    if (failures.length > 0)
      throw new Error(`${failures.length} sales could not be compared`, { cause: failures[0] });
    return report;
  };
}

/** Looks several times, and returns the differences that all looks saw, as the last one saw them. */
async function findDrift(
  deps: DriftDeps,
  saleId: string,
  signal: AbortSignal,
): Promise<{ compared: Compared | undefined; differences: Difference[] }> {
  const first = await look(deps, saleId, await listFields(deps, saleId));
  let compared = first;
  let differences = first ? compareSale(first) : [];
  for (let looks = 1; looks < LOOKS && differences.length > 0; looks += 1) {
    await delay(LOOK_PAUSE_MS, undefined, { signal });
    const fields = differences.flatMap((difference) =>
      difference.kind === 'limit' ? [difference.field] : [],
    );
    compared = await look(deps, saleId, fields);
    const before = new Set(differences.map(nameOf));
    differences = compared
      ? compareSale(compared).filter((difference) => before.has(nameOf(difference)))
      : [];
  }
  return { compared: differences.length > 0 ? compared : first, differences };
}

/**
 * Undefined when the sale cannot be compared now: it is being made again or changed, or Redis has an order in
 * part.
 */
async function look(
  { saleMends, saleBooks, log }: DriftDeps,
  saleId: string,
  fields: readonly string[],
): Promise<Compared | undefined> {
  const seen = await saleMends.look(saleId, fields);
  if (seen.kind === 'too-many')
    log.warn({ saleId, held: seen.held }, 'too many orders are held to compare them');
  if (seen.kind !== 'looked') return undefined;
  const carts = await saleMends.readCarts(saleId, seen.held);
  const users = [...new Set(fields.map((field) => parseLimitField(field).userId))];
  const books = await saleBooks.read(saleId, { held: seen.held, atMs: seen.atMs, users });
  if (books?.epoch !== seen.epoch) return undefined;
  // A change of the sale is on its way: the stores have different totals for a moment.
  if (books.isChanging || books.changeNo !== seen.changeNo) return undefined;
  const { returned: given } = books;
  if (!given) {
    log.warn({ saleId }, 'too many units were put back on sale to compare them');
    return undefined;
  }
  const missing = findMissing({ look: seen, books, carts });
  for (const { order } of await saleBooks.readOrders([...missing])) carts.set(order.orderNo, order);
  // What such an order takes is not known. The step that walks the holds parks it.
  if (seen.held.some((orderNo) => !carts.has(orderNo) && !books.stored.has(orderNo))) return undefined;
  const marks = [
    ...new Set([
      ...given.map(({ orderNo, part }) => returnMark(orderNo, 'stock', part)),
      ...books.owned.flatMap(({ orderNo, limitReturned }) =>
        limitReturned.map(({ part }) => returnMark(orderNo, 'limit', part)),
      ),
    ]),
  ];
  const returned = await saleMends.readReturned(saleId, marks);
  const givenBack = await saleMends.listGivenBackSince(saleId, seen.stock);
  return { look: seen, books: { ...books, returned: given }, carts, missing, returned, givenBack, fields };
}

/** The next limits to compare: of what users ordered, and of what Redis counts. Each walk goes round. */
async function listFields({ saleMends, saleBooks, places }: DriftDeps, saleId: string): Promise<string[]> {
  const [ordersWalk, limitsWalk] = [`limits ordered ${saleId}`, `limits counted ${saleId}`];
  const ordered = await saleBooks.listOrdered(saleId, (await places.read(ordersWalk)) ?? '', LIMITS_AT_ONCE);
  const counted = await saleMends.scanLimits(saleId, (await places.read(limitsWalk)) ?? '0', LIMITS_AT_ONCE);
  // The last order of a full page may have lines beyond it, so the next page begins with it.
  const last = ordered.at(-1)?.orderNo;
  const before = ordered.findLast(({ orderNo }) => orderNo !== last)?.orderNo;
  await places.save(ordersWalk, ordered.length === LIMITS_AT_ONCE ? before : undefined);
  await places.save(limitsWalk, counted.cursor === '0' ? undefined : counted.cursor);
  return [...new Set([...ordered.map(({ sku, userId }) => limitField(sku, userId)), ...counted.fields])];
}

async function repairAll(
  deps: DriftDeps,
  saleId: string,
  compared: Compared,
  differences: readonly Difference[],
  report: { repaired: number; parked: number },
): Promise<void> {
  let { mends } = compared.look;
  if (differences.some(({ kind }) => kind === 'lost')) {
    // No difference is to be added to what is not there.
    const request = { cause: 'lost' as const, actor: 'holdfast', reason: 'a SKU has no counters in Redis' };
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
  deps: DriftDeps,
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
      const subject = `${saleId} ${sku}`;
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
        subject: `${saleId} ${parseLimitField(field).sku}`,
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
