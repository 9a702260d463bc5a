/** GET /v1/sales/{id}: stock and rules, as Redis has them. The same for all, so that a CDN may answer it. */

import type { Context } from 'koa';
import { SALE_FRESH_SECONDS, SALE_ID_PATTERN, SALE_STALE_SECONDS } from '../domain/limits.ts';
import type { SaleStock, SaleView } from '../stores/redis/sale-stock.ts';
import { entityTagOf, isKnown } from './http/entity-tag.ts';
import { saleNotFound, unavailable } from './http/problem.ts';
import type { SaleReply } from './http/replies.ts';

const CACHE_CONTROL = [
  'public',
  `max-age=${SALE_FRESH_SECONDS}`,
  `s-maxage=${SALE_FRESH_SECONDS}`,
  `stale-while-revalidate=${SALE_STALE_SECONDS}`,
].join(', ');

export function createGetSale(saleStock: Pick<SaleStock, 'read'>) {
  async function read(saleId: string): Promise<SaleView | undefined> {
    if (!SALE_ID_PATTERN.test(saleId)) return undefined;
    try {
      return await saleStock.read(saleId);
    } catch (error) {
      throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
    }
  }

  return async function getSale(ctx: Context & { params: Record<string, string> }): Promise<void> {
    const sale = await read(ctx.params['saleId'] ?? '');
    if (!sale) throw saleNotFound();
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
