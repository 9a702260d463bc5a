/**
 * Makes a sale's data in Redis again from MySQL, under a new epoch: Redis has lost them, was restored from an
 * old file, or another one has taken over. The sale is paused meanwhile and goes on afterwards. It may die at
 * any line and be repeated; of two at once, the one with the greater epoch wins.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { IDEMPOTENCY_TTL_MS } from '../limits.ts';
import type { Order } from '../orders/content.ts';
import { isLeftUnpaid, parseOrderNo } from '../orders/order.ts';
import { projectChanges } from '../orders/reservations.redis.ts';
import { isDamaged } from '../redis/script.ts';
import type { Stores } from '../stores/open.ts';
import type { UsedLimit } from './rebuild.redis.ts';
import type { RebuildLock, SnapshotOrder } from './rebuild.sql.ts';
import { SYSTEM } from './repairs.sql.ts';

/**
 * Accepted orders that wait in the outbox are stored first. Without progress for so long they are left, and
 * reserved again afterwards.
 */
const DRAIN_IDLE_MS = 15_000;
const DRAIN_LOOK_MS = 100;

export interface RebuildDeps extends Stores {
  /** Ends the rebuild early when the process stops; it is done again. */
  signal?: AbortSignal;
}

/**
 * lost: Redis does not have the sale. replaced: another server, or this one after a restart. unfinished: an
 * earlier rebuild died, or staff asked for one. damaged: a key is of the wrong type. epochs_differ: Redis has
 * another epoch than MySQL.
 */
export type RebuildCause = 'lost' | 'replaced' | 'unfinished' | 'damaged' | 'epochs_differ';

export interface RebuildRequest {
  cause: RebuildCause;
  reason?: string;
}

interface RebuildReport {
  epoch: number;
  openOrders: number;
  /** Idempotency entries. */
  requests: number;
  /** Keys of what MySQL has that were of the wrong type. */
  replaced: number;
  /** Orders in the outbox that were not stored before; they are reserved again. */
  left: number;
  durationMs: number;
}

/** busy: another process rebuilds the sale. not-warm: there is no such sale, or it was never in Redis. */
export type RebuildOutcome = ({ kind: 'rebuilt' } & RebuildReport) | { kind: 'busy' } | { kind: 'not-warm' };

/** @throws when a store is away, or when it was overtaken: the sale stays paused until it is repeated */
export async function rebuildSale(
  deps: RebuildDeps,
  saleId: string,
  request: RebuildRequest,
): Promise<RebuildOutcome> {
  const outcome = await deps.saleEpochs.withLock(saleId, (lock) => rebuild(deps, lock, saleId, request));
  return outcome ?? { kind: 'busy' };
}

async function rebuild(
  deps: RebuildDeps,
  lock: RebuildLock,
  saleId: string,
  { cause, reason = cause }: RebuildRequest,
): Promise<RebuildOutcome> {
  const { saleEpochs, saleChanges, saleRebuild, saleStock, log } = deps;
  const beganMs = performance.now();
  const begun = await saleEpochs.announce(lock, saleId);
  if (!begun) return { kind: 'not-warm' };
  const { epoch: former, undecidedFrom } = begun;
  log.warn({ saleId, cause, epoch: former }, 'the data of a sale are made again');
  await saleRebuild.suspend(saleId);
  // First what MySQL has lost and Redis has not: no pause or end is undone, and what was sold is covered.
  // From here on Redis decides nothing. Damaged data must not keep a sale from being made again.
  const decided = await saleStock.readDecided(saleId).catch((error: unknown) => {
    // A Redis that does not answer is asked again: else a lost pause would be undone.
    if (!isDamaged(error)) throw error;
    log.error({ err: error, saleId }, 'changes that MySQL may have lost cannot be read: the sale is damaged');
    return undefined;
  });
  if (decided && (await saleChanges.catchUp(saleId, decided)))
    log.error({ saleId }, 'MySQL had lost changes of a sale; they were taken over from Redis');
  const life = await saleStock.checkLife(saleId);
  const inRedis = life.kind === 'sale-absent' ? 0 : life.epoch;
  // Of another epoch they could not be stored: they are reserved again afterwards.
  const left =
    inRedis > 0 && inRedis !== former ? await saleRebuild.countWaiting(saleId) : await drain(deps, saleId);
  // Damaged data must not keep a sale from being made again.
  const before = await saleStock.read(saleId).catch(() => undefined);

  deps.signal?.throwIfAborted();
  const epoch = await saleEpochs.advance(lock, saleId, inRedis);
  // Before the snapshot: a hold that ended in Redis until now has ended in MySQL as well.
  await saleRebuild.begin(saleId, epoch);
  const written = await deps.readSaleSnapshot(lock, saleId, async ({ pages, ...rebuilt }) => {
    const counts = await writePages(deps, saleId, epoch, pages);
    await saleRebuild.end(saleId, epoch, { ...rebuilt, undecidedFrom });
    return { ...counts, stock: rebuilt.stock };
  });
  await saleRebuild.expireVoid(saleId, (orderNos) => deps.repairs.readStates(orderNos));
  await showDamage(deps, saleId);

  const durationMs = Math.round(performance.now() - beganMs);
  const { stock, ...counts } = written;
  const report: RebuildReport = { epoch, ...counts, left, durationMs };
  const detail = {
    cause,
    formerEpoch: former,
    ...report,
    before: before?.skus.map(unitsOf),
    after: stock.map(unitsOf),
  };
  await saleEpochs.finish(lock, saleId, epoch, { actor: SYSTEM, reason }, detail);
  log.warn({ saleId, cause, ...report }, 'the data of a sale were made again; it goes on');
  return { kind: 'rebuilt', ...report };
}

/** Waits until the relays have stored what is in the outbox. @returns how many orders are left */
async function drain({ saleRebuild, signal }: RebuildDeps, saleId: string): Promise<number> {
  let least = Infinity;
  let idleSinceMs = Date.now();
  for (;;) {
    const waiting = await saleRebuild.countWaiting(saleId);
    if (waiting < least) [least, idleSinceMs] = [waiting, Date.now()];
    if (waiting === 0 || Date.now() - idleSinceMs >= DRAIN_IDLE_MS) return waiting;
    await delay(DRAIN_LOOK_MS, undefined, signal && { signal });
  }
}

/**
 * Parks what was lost with damaged keys. MySQL has all else: a rebuild that dies before it ended is repeated,
 * and finds the damage noted in Redis.
 */
async function showDamage({ saleRebuild, orders, repairs, log }: RebuildDeps, saleId: string): Promise<void> {
  const damaged = await saleRebuild.readDamaged(saleId);
  if (damaged.length === 0) return;
  log.error({ saleId, damaged }, 'data of a sale in Redis were damaged, and are made again');
  for (const orderNo of damaged.filter((name) => parseOrderNo(name)))
    await repairs.parkOrder(orderNo, 'order_damaged', 'what Redis had is no order, and MySQL has none');
  // By the deadlines the orders of a damaged outbox are found again.
  if (damaged.includes('outbox') && (damaged.includes('deadlines') || damaged.includes('void')))
    await orders.parkOutboxEntry({
      reference: `${saleId}.0/outbox`,
      orderNo: '',
      cause: 'outbox_entry_unreadable',
      reason: 'the outbox was no stream and the deadlines no sorted set: orders that waited in it are lost',
    });
  await saleRebuild.forgetDamaged(saleId, damaged);
}

async function writePages(
  { saleRebuild, repairs, reservations, signal }: RebuildDeps,
  saleId: string,
  epoch: number,
  pages: AsyncIterable<SnapshotOrder[]>,
): Promise<Pick<RebuildReport, 'openOrders' | 'requests' | 'replaced'>> {
  const counts = { openOrders: 0, requests: 0, replaced: 0 };
  const limits = new Map<string, UsedLimit>();
  const users = { open: new Map<string, OpenOrder[]>(), unpaid: new Map<string, number>() };
  for await (const page of pages) {
    signal?.throwIfAborted();
    const open = page.filter(({ state }) => state.status === 'awaiting_payment');
    const requests = page.map(({ order }) => order).filter(isRequestKnown);
    const all = page.map(({ order }) => order);
    counts.replaced += await saleRebuild.clean(saleId, epoch, all);
    // Side by side: the sale is paused, and on a busy machine each of them waits for its turn.
    await Promise.all([
      writeHolds(open, all),
      saleRebuild.writeRequests(saleId, epoch, requests),
      saleRebuild.writeTickets(saleId, epoch, page.flatMap(ticketOf)),
      saleRebuild.writeReturns(saleId, epoch, page.flatMap(returnsOf)),
    ]);
    for (const stored of page) if (countsAgainstLimit(stored)) addTo(limits, stored);
    for (const { order } of open) addOpen(users.open, order);
    for (const { order, state } of page)
      if (isLeftUnpaid(state)) users.unpaid.set(order.userId, (users.unpaid.get(order.userId) ?? 0) + 1);
    counts.openOrders += open.length;
    counts.requests += requests.length;
  }
  await saleRebuild.writeLimits(saleId, epoch, [...limits.values()]);
  await saleRebuild.writeUsers(saleId, epoch, users);
  return counts;

  async function writeHolds(open: SnapshotOrder[], all: SnapshotOrder['order'][]): Promise<void> {
    await saleRebuild.writeOrders(saleId, epoch, open);
    // What changed since the snapshot was projected to nothing, and what has ended may be shown as before.
    const states = await repairs.readStates(all.map(({ orderNo }) => orderNo));
    const changes = [...states].flatMap(([orderNo, state]) => (state ? [{ orderNo, state }] : []));
    await projectChanges(reservations, changes);
  }
}

/** A tombstone has no key: another order may have it. */
/** What of an open order its user's list needs: orders are not kept whole beyond their page. */
type OpenOrder = Pick<Order, 'orderNo' | 'reservedAtMs'>;

function addOpen(open: Map<string, OpenOrder[]>, { userId, orderNo, reservedAtMs }: Order): void {
  const list = open.get(userId);
  if (list) list.push({ orderNo, reservedAtMs });
  else open.set(userId, [{ orderNo, reservedAtMs }]);
}

function isRequestKnown({ idempotencyKey, reservedAtMs }: SnapshotOrder['order']): boolean {
  return idempotencyKey !== '' && reservedAtMs + IDEMPOTENCY_TTL_MS > Date.now();
}

/** Spent however the order ended, until it expires. */
function ticketOf({ order: { orderNo, ticket } }: SnapshotOrder) {
  return ticket && ticket.endsAtMs > Date.now() ? [{ orderNo, ...ticket }] : [];
}

function returnsOf({ order: { orderNo }, returns }: SnapshotOrder) {
  return returns.map((returned) => ({ orderNo, ...returned }));
}

function countsAgainstLimit({ state: { status } }: SnapshotOrder): boolean {
  return status === 'awaiting_payment' || status === 'paid';
}

function addTo(limits: Map<string, UsedLimit>, { order: { userId }, counted }: SnapshotOrder): void {
  for (const { sku, quantity } of counted) {
    if (quantity === 0) continue;
    const key = JSON.stringify([sku, userId]);
    const used = limits.get(key);
    if (used) used.units += quantity;
    else limits.set(key, { sku, userId, units: quantity });
  }
}

function unitsOf({
  sku,
  total,
  available,
  held,
  sold,
}: {
  sku: string;
  total: number;
  available: number;
  held: number;
  sold: number;
}) {
  return { sku, total, available, held, sold };
}
