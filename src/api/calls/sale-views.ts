/**
 * GET /v1/sales/{id}, and the memory behind it: rules and stock of sales, at most a second old, as Redis has
 * them, or MySQL before the sale is put into Redis. Purchases and challenges use the same memory. It is for
 * looking at; `reserve` alone decides.
 */

import { LRUCache } from 'lru-cache';
import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import { SALE_ID_PATTERN } from '../../limits.ts';
import {
  buyableOf,
  calledOffMark,
  saleSchema,
  saleStateOf,
  SALE_STATES,
  shopSku,
  type SaleState,
} from '../../sales/sale.ts';
import type { ShownSale } from '../../sales/sales.sql.ts';
import type { SaleView } from '../../sales/stock.redis.ts';
import { inTime } from '../../status/board.ts';
import type { Stores } from '../../stores/open.ts';
import type { CallContext, ShopCalls } from '../http/entry.ts';
import { saleNotFound, unavailable } from '../http/problem.ts';
import { count, noBody, time } from '../http/replies.ts';
import { entityTagOf, isKnown } from '../http/request.ts';

export const skuReply = shopSku.extend({
  limitPerUser: shopSku.shape.limitPerUser.removeDefault(),
  calledOff: calledOffMark.optional(),
  available: count.meta({ description: 'Units that are free now.', examples: [998] }),
  held: count.meta({ description: 'Units in unpaid orders.', examples: [2] }),
  sold: count.describe('Units in paid orders.'),
});

const { shape } = saleSchema;
export const saleReply = z
  .strictObject({
    saleId: shape.saleId,
    name: shape.name,
    currency: shape.currency,
    opensAt: time.describe('When the sale opens.'),
    closesAt: time.meta({ description: 'When the sale closes.', examples: ['2026-11-21T22:00:00.000Z'] }),
    paused: shape.paused,
    state: z.enum(SALE_STATES).meta({
      description: 'The state of the sale, by the clock by which orders are accepted.',
      examples: ['open'],
    }),
    paymentWindowMs: shape.paymentWindowMs,
    limitPerUser: shape.limitPerUser.removeDefault(),
    maxUnpaidHolds: shape.maxUnpaidHolds.removeDefault(),
    addressPurchasesPerMinute: shape.addressPurchasesPerMinute.removeDefault(),
    ticketRequired: shape.ticketRequired.removeDefault(),
    verification: shape.verification,
    reference: shape.reference,
    metadata: shape.metadata,
    skus: z.array(skuReply).describe('The SKUs. For each `total = available + held + sold`.'),
  })
  .meta({ id: 'Sale', description: 'Rules and stock of a sale.' });
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
export interface SaleShop {
  saleViews: SaleViews;
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
} satisfies ShopCalls<SaleShop>;

/** In front of the lane: what is in memory and fresh is answered without a call to a store. */
async function getKeptSale(
  { saleViews }: SaleShop,
  call: CallContext,
  next: () => Promise<unknown>,
): Promise<unknown> {
  const kept = saleViews.fresh(call.params['saleId'] ?? '');
  return kept ? answer(call, kept) : next();
}

async function getSale({ saleViews }: SaleShop, call: CallContext): Promise<void> {
  const saleId = call.params['saleId'] ?? '';
  answer(call, saleViews.fresh(saleId) ?? (await saleViews.read(saleId)));
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

function writeView({ opensAtMs, closesAtMs, skus, ...rest }: SaleView): string {
  return JSON.stringify({
    ...rest,
    skus: skus.map((item) => ({ ...item, available: buyableOf(item) })),
    opensAt: new Date(opensAtMs).toISOString(),
    closesAt: new Date(closesAtMs).toISOString(),
  } satisfies SaleReply);
}

// The memory of a process.

/** How old an answer may be, in ms since its read began, by this process's monotonic clock. */
export const KEPT_FRESH_MS = 1_000;
/** From this age on a new one is read in the background, so that no caller waits for it. */
const REFRESH_AFTER_MS = 500;
/** How often a process reads ahead, in ms. Each time it lists the sales of Redis. */
export const READ_AHEAD_EVERY_MS = 5_000;
/** A sale is read so long before its opening, in ms, because its callers come within one second. */
const OPENS_WITHIN_MS = 60_000;
/** Sales of a process; the one that was not asked for the longest gives way. */
export const KEPT_SALES_MAX = 200;
/** Characters of their answers. A usual one has 2,000; the largest, 200 SKUs with full metadata, 500,000. */
const KEPT_CHARS_MAX = 32 * 1024 * 1024;
/** A caller waits no longer for MySQL, in ms, so that callers of one sale do not fill their lane. */
const MYSQL_WITHIN_MS = 2_000;

/** An answer as it is sent. */
interface SaleAnswer {
  text: string;
  /** Its entity tag. */
  tag: string;
}

/**
 * A sale that a store has. in-redis: as it was at `nowMs` by Redis' clock (Unix ms). scheduled: MySQL alone
 * has it, and nothing of it can have been sold.
 */
type ReadSale = { kind: 'in-redis'; view: SaleView; nowMs: number } | { kind: 'scheduled'; view: SaleView };

/** lost: Redis had the sale, and will have it again. */
type MissingSale = { kind: 'unknown' } | { kind: 'lost' };

/** What the stores have of an id. */
export type SaleLook = ReadSale | MissingSale;

type Kept = ReadSale & {
  /** When its read began, by the clock. */
  beganAtMs: number;
  arrivedAtMs: number;
  shown: SaleAnswer & { state: SaleState };
};

export type SaleViews = ReturnType<typeof createSaleViews>;

export function createSaleViews({ saleStock, sales }: Stores, clock: Clock) {
  const keptSales = new LRUCache<string, Kept>({
    max: KEPT_SALES_MAX,
    maxSize: KEPT_CHARS_MAX,
    sizeCalculation: ({ shown }) => shown.text.length,
  });
  const readInMysql = createMysqlReads(sales);
  const reads = new Map<string, { beganAtMs: number; found: Promise<Kept | MissingSale> }>();

  /** @throws Problem when a store does not answer */
  async function look(saleId: string): Promise<SaleLook> {
    if (!SALE_ID_PATTERN.test(saleId)) return { kind: 'unknown' };
    try {
      const found = await saleStock.readAt(saleId);
      if (found) return { kind: 'in-redis', ...found };
      const absent = judge(await inTime(readInMysql(saleId), MYSQL_WITHIN_MS));
      // A lost one may have been put there after the first look.
      const later = absent.kind === 'lost' ? await saleStock.readAt(saleId) : undefined;
      return later ? { kind: 'in-redis', ...later } : absent;
    } catch (error) {
      throw unavailable('sale_unavailable', error);
    }
  }

  async function read(saleId: string, beganAtMs: number): Promise<Kept | MissingSale> {
    const found = await look(saleId);
    const before = keptSales.peek(saleId);
    // A read that hung may arrive after one that began later.
    if (before && before.beganAtMs > beganAtMs) return before;
    if (found.kind === 'unknown') keptSales.delete(saleId);
    if (!('view' in found)) return found;
    const kept: Kept = { ...found, beganAtMs, arrivedAtMs: clock.nowMs(), shown: show(found.view) };
    keptSales.set(saleId, kept);
    return kept;
  }

  function show(view: SaleView): Kept['shown'] {
    const text = writeView(view);
    return { text, tag: entityTagOf(text), state: view.state };
  }

  /** One read for all; one that hangs is waited for only by those who came within its first second. */
  function refresh(saleId: string): Promise<Kept | MissingSale> {
    const beganAtMs = clock.nowMs();
    const underWay = reads.get(saleId);
    if (underWay && beganAtMs - underWay.beganAtMs <= KEPT_FRESH_MS) return underWay.found;
    const own = { beganAtMs, found: read(saleId, beganAtMs) };
    reads.set(saleId, own);
    const end = () => {
      if (reads.get(saleId) === own) reads.delete(saleId);
    };
    own.found.then(end, end);
    return own.found;
  }

  /** The next caller who finds nothing fresh learns why. */
  function refreshBehind(saleId: string): void {
    refresh(saleId).catch(() => {});
  }

  function freshOf(saleId: string): Kept | undefined {
    const kept = keptSales.get(saleId);
    return kept && clock.nowMs() - kept.beganAtMs <= KEPT_FRESH_MS ? kept : undefined;
  }

  /** @throws Problem where the sale cannot be shown */
  async function readShown(saleId: string): Promise<Kept> {
    const found = await refresh(saleId);
    if (found.kind === 'unknown') throw saleNotFound();
    if (found.kind === 'lost') throw unavailable('sale_unavailable', undefined);
    return found;
  }

  /**
   * A sale opens and closes between two reads, too: by Redis' clock as it went on, and never early. Before it
   * is in Redis it does not sell, whatever its times say.
   */
  function showNow(kept: Kept): SaleAnswer {
    if (kept.kind === 'scheduled') return kept.shown;
    const state = saleStateOf(kept.view, kept.nowMs + clock.nowMs() - kept.arrivedAtMs);
    if (state !== kept.shown.state) kept.shown = show({ ...kept.view, state });
    return kept.shown;
  }

  return {
    /** Undefined: nothing that is fresh is here. */
    fresh(saleId: string): SaleAnswer | undefined {
      const kept = freshOf(saleId);
      if (kept && clock.nowMs() - kept.beganAtMs > REFRESH_AFTER_MS) refreshBehind(saleId);
      return kept && showNow(kept);
    },

    /** As the stores have it, for those who found nothing fresh. */
    read: async (saleId: string): Promise<SaleAnswer> => showNow(await readShown(saleId)),

    /** What the sale is, at most a second old. */
    view: async (saleId: string): Promise<SaleView> => (freshOf(saleId) ?? (await readShown(saleId))).view,

    /** Why Redis has just told a purchase that it lacks the sale. */
    async lookAtAbsent(saleId: string): Promise<SaleLook> {
      const kept = freshOf(saleId);
      return kept?.kind === 'scheduled' ? kept : refresh(saleId);
    },

    /**
     * What was known of it at the purchase before, or a second ago: no purchase waits for a read. Undefined:
     * this process has not seen it in Redis. Before that its prices may change.
     */
    known(saleId: string): SaleView | undefined {
      const kept = keptSales.get(saleId);
      if (kept && clock.nowMs() - kept.beganAtMs > KEPT_FRESH_MS) refreshBehind(saleId);
      return kept?.kind === 'in-redis' ? kept.view : undefined;
    },

    /** Reads one that is there, so that it is known. */
    meet: refreshBehind,

    /**
     * Reads sales that are open or open soon, and that this process does not know yet. While Redis does not
     * answer, their callers read them.
     */
    async readAhead(): Promise<void> {
      const courses = await saleStock.listCourses().catch(() => []);
      const due = courses
        .filter(({ opensInMs, closesInMs }) => closesInMs > 0 && opensInMs <= OPENS_WITHIN_MS)
        .toSorted((a, b) => b.opensInMs - a.opensInMs)
        .slice(0, KEPT_SALES_MAX / 2);
      await Promise.allSettled(
        due.map(async ({ saleId }) => {
          if (keptSales.peek(saleId)?.kind !== 'in-redis') await refresh(saleId);
        }),
      );
    },
  };
}

/**
 * Reads sales that Redis does not have: one statement at a time, for all that are asked for meanwhile. Anyone
 * may ask for any id, and made-up ids take neither connections nor a sale's turn. The lanes bound how many
 * there are.
 */
function createMysqlReads(sales: Stores['sales']) {
  let next: { saleIds: Set<string>; found: Promise<Map<string, ShownSale>> } | undefined;
  let last: Promise<unknown> = Promise.resolve();

  function plan(): NonNullable<typeof next> {
    const saleIds = new Set<string>();
    const found = last.then(async () => {
      next = undefined;
      return new Map((await sales.readAll([...saleIds])).map((each) => [each.sale.saleId, each]));
    });
    last = found.catch(() => {});
    return { saleIds, found };
  }

  return async function read(saleId: string): Promise<ShownSale | undefined> {
    next ??= plan();
    next.saleIds.add(saleId);
    return (await next.found).get(saleId);
  };
}

/** A shopper must not be told that a sale does not exist which the shop was told is scheduled. */
function judge(found: ShownSale | undefined): SaleLook {
  if (!found || found.isDraft || found.isArchived || found.isCleaned) return { kind: 'unknown' };
  const { sale, stock, isWarm, nowMs } = found;
  if (nowMs >= sale.closesAtMs) return { kind: 'unknown' };
  if (isWarm) return { kind: 'lost' };
  const { refundRestoresLimit: _, expiringNoticeMs: __, skus, ...rules } = sale;
  const counts = new Map(stock.map((each) => [each.sku, each]));
  const none = { available: 0, held: 0, sold: 0 };
  const state = rules.paused ? 'paused' : 'scheduled';
  const shown = skus.map((item) => ({ ...none, ...item, ...counts.get(item.sku) }));
  return { kind: 'scheduled', view: { ...rules, state, skus: shown } };
}
