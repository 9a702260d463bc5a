/**
 * Looks after the sales: puts them into Redis ahead of their opening, completes changes whose process died,
 * and announces what happened. Many workers may do so at once.
 */

import { WARM_UP_AHEAD_MS } from '../limits.ts';
import type { SalePage, SaleCursor } from '../sales/news.sql.ts';
import type { SaleRecord } from '../sales/rows.sql.ts';
import { isBehind, isSoldOut, type DecidedSale } from '../sales/sale.ts';
import type { SaleView } from '../sales/stock.redis.ts';
import type { Stores } from '../stores/open.ts';

/** A shop that changed a sale waits for it, and one look costs a query, and two reads for each sale. */
const LOOK_EVERY_MS = 1_000;

const LOST_CHANGES = 'MySQL had lost changes of a sale; they were taken over from Redis';

/** @returns one pass of the keeper's loop; the pass returns the pause before the next, in ms */
export function createSaleKeeper(deps: Stores): () => Promise<number> {
  const { saleChanges, saleNews, saleStock, log } = deps;
  let afterClosed: SaleCursor | undefined;

  /** The failure of one sale must not keep the others from being looked after. */
  async function alone(saleId: string, work: () => Promise<void>): Promise<void> {
    await work().catch((error: unknown) =>
      log.warn({ err: error, saleId }, 'a sale could not be looked after'),
    );
  }

  return async function pass(): Promise<number> {
    const pending = await saleChanges.listPending();
    await Promise.all(
      pending.map((change) =>
        alone(change.saleId, async () => {
          const end = await saleChanges.complete(change, saleStock);
          const { saleId, changeNo, action } = change;
          if (end) log.info({ saleId, changeNo, action, end: end.kind }, 'a change of a sale was completed');
          if (end?.kind === 'withdrawn') log.error({ saleId, changeNo, action }, LOST_CHANGES);
        }),
      ),
    );
    await inPages(
      (after) => saleNews.listToWarmUp(WARM_UP_AHEAD_MS, after),
      (saleId) => alone(saleId, () => warmUp(deps, saleId)),
    );
    const lookAfterAlone = (found: SaleRecord) => alone(found.sale.saleId, () => lookAfter(deps, found));
    await inPages((after) => saleNews.listOn(WARM_UP_AHEAD_MS, after), lookAfterAlone);
    // Of those that wait for their last hold a page at a time: there may be many for long.
    const closed = await saleNews.listClosed(afterClosed);
    afterClosed = closed.next;
    await Promise.all(closed.sales.map(lookAfterAlone));
    return LOOK_EVERY_MS;
  };
}

/** Page after page, whatever the number of sales; those of a page at once. */
async function inPages<T>(
  list: (after: SaleCursor | undefined) => Promise<SalePage<T>>,
  work: (sale: T) => Promise<void>,
): Promise<void> {
  let after: SaleCursor | undefined;
  do {
    const { sales, next } = await list(after);
    await Promise.all(sales.map(work));
    after = next;
  } while (after);
}

async function warmUp({ sales, saleStock, log }: Stores, saleId: string): Promise<void> {
  await sales.warmUp(saleId, saleStock);
  log.info({ saleId }, 'a sale was put into Redis');
}

async function lookAfter(deps: Stores, found: SaleRecord): Promise<void> {
  const { saleNews, saleStock } = deps;
  const { saleId, closesAtMs, opensAtMs } = found.sale;
  const isOver = found.nowMs >= closesAtMs;
  // Or it is to be put into Redis first.
  if (found.pendingNo !== undefined || (!found.isWarm && !isOver)) return;
  const isToBeThere = found.isWarm && !found.isCleaned;
  const inRedis = isToBeThere ? await saleStock.readWithChange(saleId) : undefined;
  // Redis has lost it: what it counts is known once its data are made again.
  if (isToBeThere && !inRedis) return;
  if (inRedis && (await catchUp(deps, found, inRedis.decided))) return;
  const live = inRedis?.view;
  if (isOver) await announceEnd(saleNews, found, live);
  else if (live && found.nowMs >= opensAtMs) await announceCourse(saleNews, found, live);
}

/** @returns whether MySQL had lost changes of the sale; a later look sees it as it is then */
async function catchUp(
  { saleChanges, log }: Stores,
  found: SaleRecord,
  decided: DecidedSale,
): Promise<boolean> {
  const { saleId } = found.sale;
  // Where the epochs differ the sale is made again, and that begins with the same.
  if (decided.epoch !== found.epoch || found.isRebuilding || !isBehind(found, decided)) return false;
  const isLost = await saleChanges.catchUp(saleId, decided, found);
  if (isLost) log.error({ saleId, changeNo: found.changeNo, taken: decided.changeNo }, LOST_CHANGES);
  return isLost;
}

async function announceCourse(
  news: Stores['saleNews'],
  { sale, hasOpened, soldOut }: SaleRecord,
  live: SaleView,
): Promise<void> {
  if (!hasOpened) await news.announceOpened(sale.saleId, live.skus);
  const isOut = isSoldOut(live.skus, false);
  if (isOut && !soldOut.isAnnounced) await news.announceSoldOut(sale.saleId, soldOut.count, live.skus);
  if (!isOut && soldOut.isAnnounced) await news.noteAvailable(sale.saleId, soldOut.count);
}

async function announceEnd(
  news: Stores['saleNews'],
  { sale, hasClosed }: SaleRecord,
  live: SaleView | undefined,
): Promise<void> {
  // Orders are accepted by the clock of Redis, which may be behind.
  if (live && live.state !== 'closed') return;
  if (!hasClosed) await news.announceClosed(sale.saleId, live?.skus);
  else if (live?.skus.every(({ held }) => held === 0) !== false) await news.announceSettled(sale.saleId);
}
