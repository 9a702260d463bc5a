/** The shop's sales: made, changed, paused, closed and shown. */

import { z } from 'zod';
import {
  MAX_DECISION_CHARS,
  MAX_SALES_LISTED,
  SALE_ID_PATTERN,
  WARM_UP_AHEAD_MS,
} from '../../domain/limits.ts';
import { SHOP_SALE_STATES, snapshotSale } from '../../domain/sale-snapshot.ts';
import { priceFaults, type CreateSaleDeps } from '../../payments/create-sale.ts';
import type { ShownSale } from '../../stores/mysql/sales/shown-sales.ts';
import type { Stores } from '../../stores/open.ts';
import { parseInput, Problem, unavailable } from '../http/problem.ts';
import { pageLimit } from '../http/query.ts';
import type { SalesReply, ShopSaleReply } from '../http/sale-replies.ts';
import { changeSale, saleUnknown } from './change-sale.ts';
import { ifMatchOf, isNewAsked } from './preconditions.ts';
import type { AdminContext } from './routes.ts';
import { parseSale } from './sale-document.ts';

export interface SaleRoutesDeps extends Stores {
  provider: CreateSaleDeps['provider'];
}

const decisionBody = z.strictObject({ reason: z.string().trim().min(1).max(MAX_DECISION_CHARS).optional() });

const listQuery = z.strictObject({
  state: z.enum(SHOP_SALE_STATES).optional(),
  after: z.string().regex(SALE_ID_PATTERN).optional(),
  limit: pageLimit(MAX_SALES_LISTED),
});

/** Each call that changes something answers the same when it is repeated. */
export function createSaleRoutes(deps: SaleRoutesDeps) {
  const { sales, saleChanges, saleStock, provider, log } = deps;

  /** As it is right now, where it is sold from. */
  async function view(found: ShownSale): Promise<ShopSaleReply> {
    const isInRedis = found.isWarm && !found.isCleaned;
    // MySQL's own counts lag behind by what is yet to be stored; better than no answer.
    const live = isInRedis ? await saleStock.read(found.sale.saleId).catch(() => undefined) : undefined;
    return { ...snapshotSale(found, live?.skus ?? found.stock), pending: found.isChanging };
  }

  async function find(saleId: string): Promise<ShownSale> {
    const found = await sales.read(saleId).catch(failToRead);
    if (!found) throw saleUnknown();
    return found;
  }

  /**
   * Puts the sale into Redis before the shop is told that it is open. Where that fails, it stays pending, and
   * a worker does it within a second.
   */
  async function warmUpIfDue(saleId: string): Promise<void> {
    const found = await find(saleId);
    if (!isToBeWarm(found)) return;
    await sales.warmUp(saleId, saleStock).catch((error: unknown) => {
      log.warn({ err: error, saleId }, 'a sale was not put into Redis at once; a worker will do it');
    });
  }

  async function answer(ctx: AdminContext, saleId: string): Promise<void> {
    const found = await find(saleId);
    ctx.etag = String(found.version);
    ctx.set('Cache-Control', 'no-store');
    ctx.body = await view(found);
  }

  return {
    async list(ctx: AdminContext): Promise<void> {
      const { state, after = '', limit } = parseInput(listQuery, { ...ctx.query });
      const found = await sales.list(state, after, limit).catch(failToRead);
      const last = found.length === limit ? found.at(-1) : undefined;
      ctx.set('Cache-Control', 'no-store');
      ctx.body = {
        sales: await Promise.all(found.map(view)),
        next: last?.sale.saleId ?? null,
      } satisfies SalesReply;
    },

    async show(ctx: AdminContext): Promise<void> {
      await answer(ctx, saleIdOf(ctx));
    },

    async put(ctx: AdminContext): Promise<void> {
      const { sale, isDraft } = parseSale(ctx.params['saleId'], ctx.state.body);
      const ask = { action: 'put', sale, isDraft, ifMatch: ifMatchOf(ctx), isNew: isNewAsked(ctx) } as const;
      const faults = priceFaults(sale, provider);
      if (faults.length > 0)
        throw new Problem('invalid_request', 'The payment provider does not take these prices.', {
          extra: { faults },
        });
      const outcome = await changeSale(deps, ask, { actor: ctx.state.userId, reason: null });
      ctx.status = outcome === 'created' ? 201 : 200;
      if (outcome === 'created') ctx.set('Location', `/v1/admin/sales/${sale.saleId}`);
      await warmUpIfDue(sale.saleId);
      await answer(ctx, sale.saleId);
    },

    act: (action: 'pause' | 'resume' | 'close') => async (ctx: AdminContext) => {
      const saleId = saleIdOf(ctx);
      const { reason = null } = parseInput(decisionBody, ctx.state.body);
      await changeSale(deps, { action, saleId }, { actor: ctx.state.userId, reason });
      await answer(ctx, saleId);
    },

    async archive(ctx: AdminContext): Promise<void> {
      const saleId = saleIdOf(ctx);
      const { reason = null } = parseInput(decisionBody, ctx.state.body);
      const outcome = await saleChanges
        .archive(saleId, { actor: ctx.state.userId, reason })
        .catch((error: unknown) => {
          throw unavailable(
            'decision_unavailable',
            'The decision could not be recorded; send it again.',
            error,
          );
        });
      if (outcome === 'unknown') throw saleUnknown();
      if (outcome === 'not-settled')
        throw new Problem('sale_not_settled', 'The sale is not over, or some of its stock is still held.');
      await answer(ctx, saleId);
    },
  };
}

/** As the worker that looks after the sales finds those that it puts into Redis. */
function isToBeWarm({ sale, isDraft, isWarm, nowMs }: ShownSale): boolean {
  return !isDraft && !isWarm && sale.opensAtMs <= nowMs + WARM_UP_AHEAD_MS && nowMs < sale.closesAtMs;
}

function saleIdOf(ctx: AdminContext): string {
  const saleId = ctx.params['saleId'] ?? '';
  if (!SALE_ID_PATTERN.test(saleId)) throw saleUnknown();
  return saleId;
}

function failToRead(error: unknown): never {
  throw unavailable('sale_unavailable', 'The sale cannot be read right now.', error);
}
