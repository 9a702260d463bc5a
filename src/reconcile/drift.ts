/**
 * Finds drift: what Redis and MySQL count differently, though nothing is on its way. A difference counts only
 * when several looks see the very same. What is provably wrong is corrected by the difference, while the sale
 * goes on, with before and after in the log of actions; the rest is parked.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { rebuildSale, type RebuildDeps } from '../rebuild/rebuild-sale.ts';
import type { DriftEntry } from '../stores/redis/drift-board.ts';
import { limitField, parseLimitField } from '../stores/redis/keys.ts';
import { compareSale, nameOf, type Compared, type Difference } from './compare-sale.ts';
import { lookAtSale, type Look } from './look-at-sale.ts';
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
/** Lines of orders, and limits, in one page: about a millisecond of Redis. */
const LIMITS_AT_ONCE = 1_000;
/** Pages of each in one run: the limits of 300,000 orders are compared in eight runs. */
const LIMIT_PAGES_MAX = 40;
/** A run begins no look after so long: one of a million holds takes minutes, and the step has five. */
const LOOKS_BEGIN_MS = 150_000;
/** Limits in doubt that are looked at with the stock, at one moment: about a millisecond of Redis. */
const DOUBTED_MAX = 500;

export function createDriftStep(deps: RebuildDeps): Step {
  const { holds, driftBoard, repairs, log } = deps;

  return async (signal) => {
    const report = { looked: 0, repaired: 0, parked: 0 };
    const entries: DriftEntry[] = [];
    const failures: unknown[] = [];
    /** When each sale was last compared whole, and why those were not that this run has left out. */
    const comparedAtMs = new Map<string, number>();
    const notCompared = new Map<string, string>();
    // One that cannot be read is written anew.
    const former = await driftBoard.read().catch((error: unknown) => {
      log.warn({ err: error }, 'what the run before has found cannot be read');
      return undefined;
    });
    const untilMs = performance.now() + LOOKS_BEGIN_MS;
    const lastOf = (saleId: string) => former?.sales?.[saleId] ?? former?.lookedAtMs ?? 0;
    const leaveOut = (saleId: string, why: string) => {
      notCompared.set(saleId, why);
      comparedAtMs.set(saleId, lastOf(saleId));
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
    await driftBoard.publish({ lookedAtMs, entries, sales: Object.fromEntries(comparedAtMs) });
    await repairs.showNotCompared(notCompared);
    report.parked += notCompared.size;
    if (failures.length > 0)
      throw new Error(`${failures.length} sales could not be compared`, { cause: failures[0] });
    return report;
  };
}

type Drift =
  | { kind: 'found'; compared: Compared; differences: Difference[] }
  | Extract<Look, { kind: 'skipped' }>;

const NO_TIME: Drift = { kind: 'skipped', why: 'the run had no time left for it' };

/** Looks several times, and returns the differences that all looks saw, as the last one saw them. */
async function findDrift(
  deps: RebuildDeps,
  saleId: string,
  { untilMs, signal }: { untilMs: number; signal: AbortSignal },
): Promise<Drift> {
  if (performance.now() > untilMs) return NO_TIME;
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

async function* listOrdered({ saleBooks, places }: RebuildDeps, saleId: string): AsyncGenerator<string[]> {
  const walk = `limits ordered ${saleId}`;
  let after = await places.read(walk);
  for (let pages = 0; pages < LIMIT_PAGES_MAX; pages += 1) {
    const page = await saleBooks.listOrdered(saleId, after ?? '', LIMITS_AT_ONCE);
    yield page.map(({ sku, userId }) => limitField(sku, userId));
    // The last order of a full page may have lines beyond it, so the next page begins with it.
    const last = page.length === LIMITS_AT_ONCE ? page.at(-1)?.orderNo : undefined;
    after = last && page.findLast(({ orderNo }) => orderNo !== last)?.orderNo;
    await places.save(walk, after);
    if (after === undefined) return;
  }
}

async function* listCounted({ saleMends, places }: RebuildDeps, saleId: string): AsyncGenerator<string[]> {
  const walk = `limits counted ${saleId}`;
  let cursor = (await places.read(walk)) ?? '0';
  for (let pages = 0; pages < LIMIT_PAGES_MAX; pages += 1) {
    const page = await saleMends.scanLimits(saleId, cursor, LIMITS_AT_ONCE);
    yield page.fields;
    ({ cursor } = page);
    await places.save(walk, cursor === '0' ? undefined : cursor);
    if (cursor === '0') return;
  }
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
