/**
 * GET /v1/sales/{id}: stock and rules, as Redis had them within the last second, or MySQL before it opens.
 * The same for all, so that a CDN may answer it.
 */

import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import { SALE_ID_PATTERN } from '../../limits.ts';
import { saleStateOf, SALE_STATES } from '../../sales/sale.ts';
import type { ShownSale } from '../../sales/sales.sql.ts';
import type { SaleView } from '../../sales/stock.redis.ts';
import type { Stores } from '../../stores/open.ts';
import type { CallContext, ShopCalls } from '../http/entry.ts';
import { saleNotFound, unavailable } from '../http/problem.ts';
import { amount, count, noBody, time } from '../http/replies.ts';
import { isKnown } from '../http/request.ts';
import { createKeptSales, type KeptSales, type ReadSale, type SaleAnswer } from './kept-sales.ts';

/** The shop's own, as it sent them. */
const shopData = {
  reference: z.string().optional(),
  metadata: z.record(z.string(), z.string()).optional(),
};

export const skuReply = z.strictObject({
  sku: z.string(),
  name: z.string(),
  unitPrice: amount,
  limitPerUser: z.int().min(1).nullable(),
  ...shopData,
  /** For good: no order takes it any more. */
  calledOff: z.literal(true).optional(),
  total: count,
  available: count,
  held: count,
  sold: count,
});

export const saleReply = z.strictObject({
  saleId: z.string(),
  name: z.string(),
  currency: z.string().length(3),
  opensAt: time,
  closesAt: time,
  paused: z.boolean(),
  /** By the clock by which orders are accepted. */
  state: z.enum(SALE_STATES),
  paymentWindowMs: z.int().min(1),
  /** Of all SKUs together. */
  limitPerUser: z.int().min(1).nullable(),
  /** Holds that a shopper may let end unpaid before more are refused. */
  maxUnpaidHolds: z.int().min(1).nullable(),
  /** Attempts to buy from one address within a minute. */
  addressPurchasesPerMinute: z.int().min(1).nullable(),
  /** An order must carry a ticket of the shop's. */
  ticketRequired: z.boolean(),
  /** An order must carry a ticket: one that was worked for, or one of the shop's. */
  verification: z
    .strictObject({ kind: z.literal('proof_of_work'), costKib: count, aheadMs: count })
    .optional(),
  ...shopData,
  skus: z.array(skuReply),
});
type SaleReply = z.infer<typeof saleReply>;

/**
 * Seconds for which a cache may answer with a sale's view as it is, and how many more while it gets a new
 * one. So a page is at most six seconds behind, one of them ours, and a million readers cost one call a
 * second. Only `reserve` says what is left.
 */
export const [SALE_FRESH_SECONDS, SALE_STALE_SECONDS] = [1, 4];

const CACHE_CONTROL = [
  'public',
  `max-age=${SALE_FRESH_SECONDS}`,
  `s-maxage=${SALE_FRESH_SECONDS}`,
  `stale-while-revalidate=${SALE_STALE_SECONDS}`,
].join(', ');

/** What the call works with. */
export interface SaleViews {
  keptSales: KeptSales;
}

export const saleViewCalls = {
  'GET /v1/sales/:saleId': {
    id: 'getSale',
    does: 'Rules and stock of a sale, the same for all',
    who: 'anyone',
    lane: 'others',
    isHot: true,
    watch: getKeptSale,
    reads: ['If-None-Match'],
    replies: { 200: saleReply, 304: noBody },
    gives: { 200: ['ETag', 'Cache-Control'], 304: ['ETag', 'Cache-Control'] },
    refuses: ['sale_not_found', 'sale_unavailable'],
    handle: getSale,
  },
} satisfies ShopCalls<SaleViews>;

/** In front of the lane: what is in memory and fresh is answered without a call to a store. */
async function getKeptSale(
  { keptSales }: SaleViews,
  call: CallContext,
  next: () => Promise<unknown>,
): Promise<unknown> {
  const kept = keptSales.fresh(call.params['saleId'] ?? '');
  return kept ? answer(call, kept) : next();
}

async function getSale({ keptSales }: SaleViews, call: CallContext): Promise<void> {
  const saleId = call.params['saleId'] ?? '';
  answer(call, keptSales.fresh(saleId) ?? (await keptSales.read(saleId)));
}

function answer(call: CallContext, { text, tag }: SaleAnswer): void {
  call.set('Cache-Control', CACHE_CONTROL);
  call.set('ETag', tag);
  call.status = 200;
  if (isKnown(tag, call.get('If-None-Match'))) {
    call.status = 304;
    return;
  }
  call.type = 'json';
  call.body = text;
}

/** The views of a process, each read from Redis, or from MySQL where it is yet to be put into Redis. */
export function keepSales(stores: Stores, findAbsentSale: FindAbsentSale, clock: Clock): KeptSales {
  async function read(saleId: string): Promise<ReadSale> {
    if (!SALE_ID_PATTERN.test(saleId)) throw saleNotFound();
    return (await readInRedis(stores, saleId)) ?? readAbsent(stores, findAbsentSale, saleId);
  }
  return createKeptSales(stores, read, { write: writeView, clock });
}

function writeView({ opensAtMs, closesAtMs, ...rest }: SaleView): string {
  return JSON.stringify({
    ...rest,
    opensAt: new Date(opensAtMs).toISOString(),
    closesAt: new Date(closesAtMs).toISOString(),
  } satisfies SaleReply);
}

async function readInRedis({ saleStock }: Stores, saleId: string): Promise<ReadSale | undefined> {
  try {
    return await saleStock.readAt(saleId);
  } catch (error) {
    throw unavailable('sale_unavailable', error);
  }
}

/** @throws Problem where it cannot be shown */
async function readAbsent(stores: Stores, findAbsentSale: FindAbsentSale, saleId: string): Promise<ReadSale> {
  const absent = await findAbsentSale(saleId);
  if (absent.kind === 'unknown') throw saleNotFound();
  if (absent.kind === 'scheduled') return { view: absent.sale, nowMs: undefined };
  // It may have been put there after the first look.
  const found = await readInRedis(stores, saleId);
  if (!found) throw unavailable('sale_unavailable', undefined);
  return found;
}

// Sales that Redis does not have, as MySQL knows them: a shopper must not be answered that a
// sale does not exist which the shop was answered is scheduled.

/**
 * A sale that Redis does not have, and what MySQL knows of it. scheduled: it was not put into Redis yet, and
 * nothing of it can have been sold. lost: Redis had it, and will have it again.
 */
export type AbsentSale =
  | { kind: 'unknown' }
  | { kind: 'lost' }
  | { kind: 'scheduled'; sale: SaleView; isDue: boolean };

/** Sales that are looked up at once. Anyone may ask for any id, and must not take MySQL from the others. */
const LOOKS_MAX = 8;

type FindAbsentSale = ReturnType<typeof createAbsentSales>;

export function createAbsentSales(sales: Pick<Stores['sales'], 'read'>) {
  const looks = new Map<string, Promise<AbsentSale>>();

  async function look(saleId: string): Promise<AbsentSale> {
    try {
      return judge(await sales.read(saleId));
    } catch (error) {
      throw unavailable('sale_unavailable', error);
    } finally {
      looks.delete(saleId);
    }
  }

  /**
   * Those who ask for the same sale at the same time share one look.
   * @throws Problem when MySQL does not answer, or is asked for too many sales
   */
  return function findAbsentSale(saleId: string): Promise<AbsentSale> {
    const shared = looks.get(saleId);
    if (shared) return shared;
    if (looks.size >= LOOKS_MAX) throw unavailable('sale_unavailable', undefined);
    const own = look(saleId);
    looks.set(saleId, own);
    return own;
  };
}

function judge(found: ShownSale | undefined): AbsentSale {
  if (!found || found.isDraft || found.isArchived || found.isCleaned) return { kind: 'unknown' };
  const { sale, stock, isWarm, nowMs } = found;
  if (nowMs >= sale.closesAtMs) return { kind: 'unknown' };
  if (isWarm) return { kind: 'lost' };
  const { refundRestoresLimit: _, expiringNoticeMs: __, skus, ...rules } = sale;
  const counts = new Map(stock.map((each) => [each.sku, each]));
  const none = { available: 0, held: 0, sold: 0 };
  // It does not sell before it is in Redis, whatever its times say.
  const state = saleStateOf(rules, nowMs) === 'paused' ? 'paused' : 'scheduled';
  const shown = skus.map((item) => ({ ...none, ...item, ...counts.get(item.sku) }));
  return { kind: 'scheduled', sale: { ...rules, state, skus: shown }, isDue: nowMs >= sale.opensAtMs };
}
