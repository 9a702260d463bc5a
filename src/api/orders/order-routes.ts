/** Reading, cancelling and paying an order. */

import type { Context } from 'koa';
import { z } from 'zod';
import { isFinal, type OrderState } from '../../domain/order.ts';
import type { WishRecorded } from '../../stores/mysql/orders/orders.ts';
import type { Stores } from '../../stores/open.ts';
import type { ReservedOrder } from '../../stores/redis/reservations.ts';
import type { RequestState } from '../http/auth.ts';
import type { Call } from '../http/http-server.ts';
import { unavailable, parseInput, Problem } from '../http/problem.ts';
import type { SourcedOrderReply, SessionReply } from '../http/replies.ts';
import type { EngineNotifier } from './engine-notifier.ts';
import { type QueryWorkflow } from './lost-orders.ts';
import { type FoundOrder, type OrderFinder, viewOrder } from './order-view.ts';
import type { OpenPaymentPage } from './payment-page.ts';
import type { Projection } from './projection.ts';

const statusOptions = z.object({ source: z.enum(['workflow']).optional() });

export interface OrderRoutesDeps extends Stores {
  projection: Pick<Projection, 'project'>;
  queryWorkflow: QueryWorkflow;
  notifier: EngineNotifier;
  findOrder: OrderFinder;
  openPaymentPage: OpenPaymentPage;
}

/** A state, and what answered. */
interface Answered {
  state: OrderState;
  source: SourcedOrderReply['source'];
}

type OrderContext = Context & { state: RequestState; params: Record<string, string> };

export function createOrderRoutes(deps: OrderRoutesDeps) {
  const { orders, projection, queryWorkflow, notifier, findOrder, openPaymentPage, log } = deps;

  function find(ctx: Pick<Call, 'params' | 'get'> & { state: RequestState }): Promise<FoundOrder> {
    return findOrder(ctx.params['orderNo'] ?? '', ctx.state.userId, knownVersionOf(ctx));
  }

  /** The workflow's own view; that of MySQL or Redis while no worker answers or no workflow has begun. */
  async function askWorkflow(found: FoundOrder): Promise<Answered> {
    const { orderNo } = found.order;
    const answer = await queryWorkflow(orderNo);
    // The query may be behind what MySQL has committed; a status never goes back.
    if (typeof answer !== 'string' && answer.version >= found.state.version)
      return { state: answer, source: 'workflow' };
    try {
      const stored = await orders.read(orderNo);
      if (stored && stored.state.version >= found.state.version)
        return { state: stored.state, source: 'database' };
    } catch (error) {
      log.warn({ err: error, orderNo }, 'neither the workflow nor MySQL answers');
    }
    return found;
  }

  /** A wish to cancel must be durable, so an order that still waits to be stored is stored first. */
  async function requestCancel({ order, state }: ReservedOrder): Promise<WishRecorded> {
    try {
      if (state.status === 'queued') {
        const outcome = await orders.storeOrder(order, 'due');
        // Its own workflow meets the refusal and gives the stock back: nothing is left to cancel.
        if (outcome.kind === 'refused') return { order, state, isNews: false };
      }
      return await orders.requestCancel(order.orderNo);
    } catch (error) {
      throw unavailable('cancel_unavailable', 'The order cannot be cancelled right now.', error);
    }
  }

  return {
    async getOrder(ctx: Call): Promise<void> {
      const { source } = parseInput(statusOptions, ctx.query);
      const found = await find(ctx);
      const answered = source === 'workflow' ? await askWorkflow(found) : found;
      const { state } = answered;
      if (state.version > found.state.version) await projection.project({ order: found.order, state });
      ctx.status = 200;
      ctx.set('ETag', `"${state.version}"`);
      if (knowsVersion(ctx, state.version)) {
        ctx.status = 304;
        return;
      }
      const view = viewOrder(found.order, state);
      // A caller that asked for the workflow must see whether it answered; the others chose no source.
      ctx.body =
        source === 'workflow' ? ({ ...view, source: answered.source } satisfies SourcedOrderReply) : view;
    },

    async cancelOrder(ctx: OrderContext): Promise<void> {
      const found = await find(ctx);
      const recorded = isFinal(found.state.status) ? { ...found, isNews: false } : await requestCancel(found);
      const { order, state } = recorded;
      if (state.version > found.state.version) await projection.project({ order, state });
      if (state.status === 'paid' || state.payment !== 'none') {
        throw new Problem('already_paid', 'The order has been paid.', {
          extra: { order: viewOrder(order, state) },
        });
      }
      // A repeated request is not signalled again: a history has room for 10,000 signals. The relay sends a
      // signal that was lost the first time.
      if (recorded.isNews) notifier.cancelRequested(recorded);
      ctx.status = isFinal(state.status) ? 200 : 202;
      ctx.body = viewOrder(order, state);
    },

    async payOrder(ctx: OrderContext): Promise<void> {
      const found = await find(ctx);
      if (found.state.reason === 'lost_before_stored') {
        const extra = { order: viewOrder(found.order, found.state) };
        throw new Problem('not_payable', 'The order can no longer be paid.', { extra });
      }
      const { url, expiresAtMs } = await openPaymentPage(found);
      ctx.status = 201;
      const expiresAt = new Date(expiresAtMs).toISOString();
      ctx.body = { orderNo: found.order.orderNo, url, expiresAt } satisfies SessionReply;
    },
  };
}

/** `*` matches any version of an order that exists (RFC 9110, 13.1.2). */
function knowsVersion(ctx: Pick<Call, 'get'>, version: number): boolean {
  return ctx.get('If-None-Match').trim() === '*' || knownVersionsOf(ctx).includes(version);
}

/** Not `ctx.fresh`: a `fetch` with If-None-Match also sends `Cache-Control: no-cache`, which turns it off. */
function knownVersionsOf(ctx: Pick<Call, 'get'>): number[] {
  const tags = ctx.get('If-None-Match').split(',');
  return tags.flatMap((tag) => {
    const version = /^(?:W\/)?"(\d{1,9})"$/.exec(tag.trim())?.[1];
    return version === undefined ? [] : [Number(version)];
  });
}

/** The newest version that the caller has seen. */
function knownVersionOf(ctx: Pick<Call, 'get'>): number {
  return Math.max(0, ...knownVersionsOf(ctx));
}
