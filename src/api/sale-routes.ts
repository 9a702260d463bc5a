/**
 * GET /v1/sales/{id}: stock and rules, as Redis has them, or MySQL before it opens. The same for all, so that
 * a CDN may answer it.
 */

import type { Context } from 'koa';
import { SALE_FRESH_SECONDS, SALE_ID_PATTERN, SALE_STALE_SECONDS } from '../domain/limits.ts';
import type { Stores } from '../stores/open.ts';
import type { SaleView } from '../stores/redis/sale-stock.ts';
import type { FindAbsentSale } from './absent-sales.ts';
import { entityTagOf, isKnown } from './http/entity-tag.ts';
import { saleNotFound, unavailable } from './http/problem.ts';
import type { SaleReply } from './http/replies.ts';

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
