/** What is forgotten: persons on request, and what has been kept long enough. */

import type { Decision } from '../parked/parked.sql.ts';
import { formatSaleShard, wholeSale, type SaleShard } from '../redis/keys.ts';
import type { Stores } from '../stores/open.ts';
import type { StepReport } from '../workflows/contract.ts';
import type { Batch } from './retention.sql.ts';

// Erases a person on request: their orders stay in the books under a random token, and nothing that
// identifies them is left. It may die at any line and be repeated.

/** Pages of orders: a person has a few, and a loop must end. */
const PAGES_MAX = 1_000;

/**
 * busy: an order of the person is open, or accepted and not stored yet; ask again when it has ended. unknown:
 * no store has anything of that person.
 */
export type EraseOutcome =
  | { kind: 'erased'; token: string; orders: number }
  | { kind: 'busy'; orderNos: string[] }
  | { kind: 'unknown' };

/** @throws when a store is away: to be repeated */
export async function erasePerson(deps: Stores, userId: string, decision: Decision): Promise<EraseOutcome> {
  const { persons } = deps;
  const open = await persons.listOpen(userId);
  if (open.length > 0) return { kind: 'busy', orderNos: open };
  if (await hasUnstored(deps, userId)) return { kind: 'busy', orderNos: [] };
  const isKnown = (await persons.listEnded(userId, '')).length > 0 || (await persons.isBegun(userId));
  if (!isKnown) return { kind: 'unknown' };
  const token = await persons.begin(userId);
  // Redis first, because it is found by what MySQL still knows.
  const held = await forgetOrders(deps, userId);
  if (held.length > 0) return { kind: 'busy', orderNos: held };
  await renameInRedis(deps, userId, token);
  await replaceInMysql(deps, userId, token);
  return { kind: 'erased', token, orders: await persons.end(userId, token, decision) };
}

/** An accepted order that is not stored counts against its user's limit, and MySQL does not know it. */
async function hasUnstored(deps: Stores, userId: string): Promise<boolean> {
  const { persons, forgetting } = deps;
  for (const shard of await listAllShards(deps)) {
    const skus = await persons.listSkus(shard.saleId);
    if (skus.length === 0) continue;
    const owned = await persons.readOwned(shard.saleId, userId);
    const counted = await forgetting.readLimits(shard, userId, skus);
    if ([...counted].some(([sku, units]) => units > (owned.get(sku) ?? 0))) return true;
  }
  return false;
}

/**
 * Of Redis' list, and of MySQL: what the list has lost at this moment would keep the person's id for good.
 */
async function listAllShards({ holds, sales }: Stores): Promise<SaleShard[]> {
  const shards = new Map((await holds.listShards()).map((shard) => [formatSaleShard(shard), shard]));
  for (let after = ''; ;) {
    const page = await sales.listInRedis(after);
    for (const shard of page.map(wholeSale)) shards.set(formatSaleShard(shard), shard);
    const last = page.at(-1);
    if (last === undefined) return [...shards.values()];
    after = last;
  }
}

/** @returns orders whose hold has not ended, though they have */
async function forgetOrders({ persons, forgetting }: Stores, userId: string): Promise<string[]> {
  const held: string[] = [];
  let after = '';
  for (let pages = 0; pages < PAGES_MAX; pages += 1) {
    const orders = await persons.listEnded(userId, after);
    const outcomes = await Promise.all(orders.map((order) => forgetting.forgetOrder({ ...order, userId })));
    held.push(...orders.flatMap(({ orderNo }, i) => (outcomes[i] === 'held' ? [orderNo] : [])));
    const last = orders.at(-1);
    if (!last) return held;
    after = last.orderNo;
  }
  throw new Error(`more orders of a person than ${PAGES_MAX} pages`);
}

async function renameInRedis(deps: Stores, userId: string, token: string): Promise<void> {
  const { persons, forgetting } = deps;
  for (const shard of await listAllShards(deps)) {
    const skus = await persons.listSkus(shard.saleId);
    if (skus.length > 0) await forgetting.renameUser(shard, userId, token, skus);
  }
}

async function replaceInMysql({ persons }: Stores, userId: string, token: string): Promise<void> {
  for (let pages = 0; pages < PAGES_MAX; pages += 1) {
    // Those that were replaced are not among the person's any more.
    const orders = await persons.listEnded(userId, '');
    if (orders.length === 0) return;
    await persons.replace(
      orders.map(({ orderNo }) => orderNo),
      token,
    );
  }
  throw new Error(`more orders of a person than ${PAGES_MAX} pages`);
}

// Removes what is kept no longer, in bounded batches: a sale's data in Redis, contacts of ended orders with
// their signed orders, raw notices, parked work that has been settled, and deliveries that have ended.

const HOUR_MS = 60 * 60 * 1000;
const DAY_MS = 24 * HOUR_MS;
/** Batches of each kind in one run: what a day brings is cleared within minutes. */
const BATCHES_MAX = 10;
const NOTICES_WALK = 'notices';

export interface RetentionDeps extends Stores {
  /** For how long what is kept. */
  keep: { KEEP_SALE_HOURS: number; KEEP_CONTACT_DAYS: number; KEEP_NOTICE_DAYS: number };
}

export async function clearExpired(deps: RetentionDeps, signal: AbortSignal): Promise<StepReport> {
  const { retention, keep, log } = deps;
  // The most personal data go first.
  const contacts = await inBatches(signal, () => retention.clearContacts(keep.KEEP_CONTACT_DAYS * DAY_MS));
  const notices = await inBatches(signal, () => clearNotices(deps));
  const parked = await inBatches(signal, () => retention.deleteParked(keep.KEEP_NOTICE_DAYS * DAY_MS));
  const deliveries = await inBatches(signal, () =>
    retention.deleteDeliveries(keep.KEEP_NOTICE_DAYS * DAY_MS),
  );
  const sales = await forgetSales(deps, signal);
  const looked = contacts + notices + parked + deliveries + sales;
  if (looked > 0)
    log.info({ contacts, notices, parked, deliveries, sales }, 'cleared what is kept no longer');
  return { looked, repaired: 0, parked: 0 };
}

/** @returns how many things all batches cleared */
async function inBatches(signal: AbortSignal, clear: () => Promise<Batch>): Promise<number> {
  let cleared = 0;
  for (let batches = 0; batches < BATCHES_MAX && !signal.aborted; batches += 1) {
    const batch = await clear();
    cleared += batch.cleared;
    if (!batch.isFull) break;
  }
  return cleared;
}

async function clearNotices({ retention, cursors, keep }: RetentionDeps): Promise<Batch> {
  const after = Number((await cursors.read(NOTICES_WALK)) ?? 0);
  const batch = await retention.clearNotices(after, keep.KEEP_NOTICE_DAYS * DAY_MS);
  if (batch.cleared > 0) await cursors.save(NOTICES_WALK, String(batch.last));
  return batch;
}

async function forgetSales(deps: RetentionDeps, signal: AbortSignal): Promise<number> {
  const { retention, forgetting, holds, keep, log } = deps;
  let forgotten = 0;
  for (const shard of await holds.listShards()) {
    if (signal.aborted) break;
    if (!(await retention.isRedisDone(shard.saleId, keep.KEEP_SALE_HOURS * HOUR_MS))) continue;
    // The next run finds the sale again, where there are more.
    if ((await retention.deletePoints(shard.saleId)).isFull) continue;
    // Noted first, or what goes now would be made again.
    await retention.noteRedisCleaned(shard.saleId);
    const outcome = await forgetting.forgetSale(shard);
    if (outcome === 'forgotten') forgotten += 1;
    log.info({ saleId: shard.saleId, outcome }, 'a sale is long over: its data in Redis are not kept');
  }
  return forgotten;
}
