/**
 * GET /v1/sales/{id}: stock and rules, as Redis has them, or MySQL before it opens. The same for all, so that
 * a CDN may answer it.
 */

import type { Context } from 'koa';
import { SALE_FRESH_SECONDS, SALE_ID_PATTERN, SALE_STALE_SECONDS } from '../domain/limits.ts';
import { saleStateOf } from '../domain/sale.ts';
import type { ShownSale } from '../stores/mysql/sales/sales.ts';
import type { Stores } from '../stores/open.ts';
import type { SaleView } from '../stores/redis/sale-stock.ts';
import { entityTagOf, isKnown } from './http/entity-tag.ts';
import { saleNotFound, unavailable } from './http/problem.ts';
import type { SaleReply } from './http/replies.ts';
import type { AbsentSale } from './orders/place-order.ts';

const CACHE_CONTROL = [
  'public',
  `max-age=${SALE_FRESH_SECONDS}`,
  `s-maxage=${SALE_FRESH_SECONDS}`,
  `stale-while-revalidate=${SALE_STALE_SECONDS}`,
].join(', ');

export interface GetSaleDeps extends Stores {
  findAbsentSale: FindAbsentSale;
}

export function createGetSale({ saleStock, findAbsentSale }: GetSaleDeps) {
  async function read(saleId: string): Promise<SaleView | undefined> {
    if (!SALE_ID_PATTERN.test(saleId)) return undefined;
    try {
      return await saleStock.read(saleId);
    } catch (error) {
      throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
    }
  }

  /** From MySQL, where it is yet to be put into Redis. @throws Problem where it cannot be shown */
  async function readAbsent(saleId: string): Promise<SaleView> {
    const absent = SALE_ID_PATTERN.test(saleId) ? await findAbsentSale(saleId) : undefined;
    if (!absent || absent.kind === 'unknown') throw saleNotFound();
    if (absent.kind === 'scheduled') return absent.sale;
    // It may have been put there after the first look.
    const found = await read(saleId);
    if (!found) throw unavailable('sale_unavailable', 'The sale cannot be read right now.', undefined);
    return found;
  }

  return async function getSale(ctx: Context & { params: Record<string, string> }): Promise<void> {
    const saleId = ctx.params['saleId'] ?? '';
    const sale = (await read(saleId)) ?? (await readAbsent(saleId));
    const { opensAtMs, closesAtMs, ...rest } = sale;
    const view = {
      ...rest,
      opensAt: new Date(opensAtMs).toISOString(),
      closesAt: new Date(closesAtMs).toISOString(),
    } satisfies SaleReply;
    const text = JSON.stringify(view);
    const tag = entityTagOf(text);
    ctx.set({ 'Cache-Control': CACHE_CONTROL, ETag: tag });
    if (isKnown(tag, ctx.get('If-None-Match'))) {
      ctx.status = 304;
      return;
    }
    ctx.type = 'json';
    ctx.body = text;
  };
}

// Sales that Redis does not have, as MySQL knows them: a shopper must not be told that a sale does not
// exist which the shop was told is scheduled.

/** Sales that are looked up at once. Anyone may ask for any id, and must not take MySQL from the others. */
const LOOKS_MAX = 8;

type FindAbsentSale = ReturnType<typeof createAbsentSales>;

export function createAbsentSales(sales: Pick<Stores['sales'], 'read'>) {
  const looks = new Map<string, Promise<AbsentSale>>();

  async function look(saleId: string): Promise<AbsentSale> {
    try {
      return judge(await sales.read(saleId));
    } catch (error) {
      throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
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
    if (looks.size >= LOOKS_MAX)
      throw unavailable('sale_unavailable', 'The sale cannot be read right now.', undefined);
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
  const { refundRestoresLimit: _, skus, ...rules } = sale;
  const counts = new Map(stock.map((count) => [count.sku, count]));
  const none = { available: 0, held: 0, sold: 0 };
  // It does not sell before it is in Redis, whatever its times say.
  const state = saleStateOf(rules, nowMs) === 'paused' ? 'paused' : 'scheduled';
  const shown = skus.map((item) => ({ ...none, ...item, ...counts.get(item.sku) }));
  return { kind: 'scheduled', sale: { ...rules, state, skus: shown }, isDue: nowMs >= sale.opensAtMs };
}
