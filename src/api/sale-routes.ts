/** GET /v1/sales/{id}: stock and rules, as Redis has them. */

import type { Context } from 'koa';
import { SALE_ID_PATTERN } from '../domain/limits.ts';
import type { SaleStock, SaleView } from '../stores/redis/sale-stock.ts';
import { saleNotFound, unavailable } from './http/problem.ts';
import type { SaleReply } from './http/replies.ts';

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
    ctx.body = {
      ...rest,
      opensAt: new Date(opensAtMs).toISOString(),
      closesAt: new Date(closesAtMs).toISOString(),
    } satisfies SaleReply;
  };
}
