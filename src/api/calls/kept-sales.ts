/**
 * The views of sales that this process keeps in memory, in front of Redis: at most a second old, read once
 * for all callers. They are for looking at; `reserve` alone decides.
 */

import { LRUCache } from 'lru-cache';
import type { Clock } from '../../clock.ts';
import { saleStateOf, type SaleState } from '../../sales/sale.ts';
import type { SaleView } from '../../sales/stock.redis.ts';
import type { Stores } from '../../stores/open.ts';
import { entityTagOf } from '../http/request.ts';

/** How old an answer may be, in ms since its read began, by this process's monotonic clock. */
export const KEPT_FRESH_MS = 1_000;
/** From this age on a new one is read in the background, so that no caller waits for it. */
const REFRESH_AFTER_MS = 500;
const LOOK_AT_AGES_EVERY_MS = 250;
/** A view is refreshed for so long after its last caller; a page asks every second or two. In ms. */
const ASKED_WITHIN_MS = 10_000;
/** How often the list of sales is looked through for those that are about to open, in ms. */
const LOOK_EVERY_MS = 5_000;
/** Around its opening a sale is read ahead of its callers, in ms: they come within one second. */
const OPENING_MS = 60_000;
/** Sales of a process; the one that was not asked for the longest gives way. */
export const KEPT_SALES_MAX = 200;
/** Characters of their answers. A usual one has 2,000; the largest, 200 SKUs with full metadata, 500,000. */
const KEPT_CHARS_MAX = 32 * 1024 * 1024;

/** An answer as it is sent. */
export interface SaleAnswer {
  text: string;
  /** Its entity tag. */
  tag: string;
}

/** A view as a store had it. */
export interface ReadSale {
  view: SaleView;
  /** When it was read, by Redis' clock (Unix ms). Undefined: Redis does not have it, so it is not kept. */
  nowMs: number | undefined;
}

interface Kept extends ReadSale {
  /** When its read began, by the clock. */
  beganAtMs: number;
  arrivedAtMs: number;
  askedAtMs: number;
  shown: SaleAnswer & { state: SaleState };
}

export type KeptSales = ReturnType<typeof createKeptSales>;

/**
 * @param readSale what the sale is; throws where it cannot be shown
 * @param write the answer
 */
export function createKeptSales(
  { saleStock }: Stores,
  readSale: (saleId: string) => Promise<ReadSale>,
  { write, clock }: { write: (view: SaleView) => string; clock: Clock },
) {
  const keptSales = new LRUCache<string, Kept>({
    max: KEPT_SALES_MAX,
    maxSize: KEPT_CHARS_MAX,
    sizeCalculation: ({ shown }) => shown.text.length,
  });
  const reads = new Map<string, { beganAtMs: number; kept: Promise<Kept> }>();

  async function read(saleId: string, beganAtMs: number): Promise<Kept> {
    const { view, nowMs } = await readSale(saleId);
    const arrivedAtMs = clock.nowMs();
    const before = keptSales.peek(saleId);
    // A read that hung may arrive after one that began later.
    if (before && before.beganAtMs > beganAtMs) return before;
    const askedAtMs = before?.askedAtMs ?? arrivedAtMs;
    const kept = { view, nowMs, beganAtMs, arrivedAtMs, askedAtMs, shown: show(view) };
    if (nowMs !== undefined) keptSales.set(saleId, kept);
    return kept;
  }

  function show(view: SaleView): Kept['shown'] {
    const text = write(view);
    return { text, tag: entityTagOf(text), state: view.state };
  }

  /** One read for all; one that hangs is waited for only by those who came within its first second. */
  function refresh(saleId: string): Promise<Kept> {
    const beganAtMs = clock.nowMs();
    const underWay = reads.get(saleId);
    if (underWay && beganAtMs - underWay.beganAtMs <= KEPT_FRESH_MS) return underWay.kept;
    const own = { beganAtMs, kept: read(saleId, beganAtMs) };
    reads.set(saleId, own);
    const end = () => {
      if (reads.get(saleId) === own) reads.delete(saleId);
    };
    own.kept.then(end, end);
    return own.kept;
  }

  /** The next caller who finds nothing fresh learns why. */
  function refreshBehind(saleId: string): void {
    refresh(saleId).catch(() => {});
  }

  /** A sale opens and closes between two reads, too: by Redis' clock as it went on, and never early. */
  function showNow(kept: Kept): SaleAnswer {
    const { view, nowMs, arrivedAtMs } = kept;
    if (nowMs === undefined) return kept.shown;
    const state = saleStateOf(view, nowMs + clock.nowMs() - arrivedAtMs);
    if (state !== kept.shown.state) kept.shown = show({ ...view, state });
    return kept.shown;
  }

  /** Reads those ahead that are about to open, and at start those that are open. */
  async function lookAhead(isStart: boolean): Promise<void> {
    const courses = await saleStock.listCourses();
    const due = courses
      .filter(({ opensInMs, closesInMs }) => {
        if (closesInMs <= 0 || opensInMs > OPENING_MS) return false;
        return isStart || opensInMs > -OPENING_MS;
      })
      .toSorted((a, b) => b.opensInMs - a.opensInMs)
      .slice(0, KEPT_SALES_MAX / 2);
    const nowMs = clock.nowMs();
    for (const { saleId } of due) {
      const kept = keptSales.peek(saleId);
      if (kept) kept.askedAtMs = nowMs;
    }
    await Promise.allSettled(
      due.map(async ({ saleId }) => keptSales.peek(saleId) ?? (await refresh(saleId))),
    );
  }

  return {
    /** Undefined: nothing that is fresh is here. */
    fresh(saleId: string): SaleAnswer | undefined {
      const kept = keptSales.get(saleId);
      const nowMs = clock.nowMs();
      if (!kept || nowMs - kept.beganAtMs > KEPT_FRESH_MS) return undefined;
      kept.askedAtMs = nowMs;
      if (nowMs - kept.beganAtMs > REFRESH_AFTER_MS) refreshBehind(saleId);
      return showNow(kept);
    },

    /** As the stores have it, for those who found nothing fresh. */
    async read(saleId: string): Promise<SaleAnswer> {
      const kept = await refresh(saleId);
      kept.askedAtMs = clock.nowMs();
      return showNow(kept);
    },

    /** What the sale is, at most a second old. */
    async view(saleId: string): Promise<SaleView> {
      const kept = keptSales.get(saleId);
      const isFresh = kept && clock.nowMs() - kept.beganAtMs <= KEPT_FRESH_MS;
      return (isFresh ? kept : await refresh(saleId)).view;
    },

    /**
     * What was known of it at the purchase before, or a second ago: no purchase waits for a read. Undefined:
     * this process has not seen it.
     */
    known(saleId: string): SaleView | undefined {
      const kept = keptSales.get(saleId);
      if (kept && clock.nowMs() - kept.beganAtMs > KEPT_FRESH_MS) refreshBehind(saleId);
      return kept?.view;
    },

    /** Reads one that is there, so that it is known. */
    meet: refreshBehind,

    /** At start: what is on sale. Where Redis does not answer, the first callers read it. */
    warmUp: () => lookAhead(true).catch(() => {}),

    /** @returns what ends it */
    keepFresh(): () => void {
      let lookedAtMs = -Infinity;
      const timer = setInterval(() => {
        const nowMs = clock.nowMs();
        for (const [saleId, { askedAtMs, beganAtMs }] of keptSales.entries())
          if (nowMs - askedAtMs <= ASKED_WITHIN_MS && nowMs - beganAtMs >= REFRESH_AFTER_MS)
            refreshBehind(saleId);
        if (nowMs - lookedAtMs < LOOK_EVERY_MS) return;
        lookedAtMs = nowMs;
        lookAhead(false).catch(() => {});
      }, LOOK_AT_AGES_EVERY_MS);
      return () => clearInterval(timer);
    },
  };
}
