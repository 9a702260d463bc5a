/** POST /v1/orders: holds the stock and accepts the order in one step, or refuses with the reason. */

import { isIP } from 'node:net';
import { z } from 'zod';
import { askedOfOrder, fingerprintOf } from '../../domain/content.ts';
import { skuSchema } from '../../domain/ids.ts';
import {
  MAX_CART_LINES,
  MAX_LINE_QUANTITY,
  MAX_IP_CHARS,
  MAX_USER_AGENT_CHARS,
  SALE_ID_PATTERN,
} from '../../domain/limits.ts';
import type { OrderState } from '../../domain/order.ts';
import type { Stores } from '../../stores/open.ts';
import type { ReserveOutcome, ReserveRequest } from '../../stores/redis/reserve.ts';
import type { SaleView } from '../../stores/redis/sale-stock.ts';
import type { Call } from '../http/http-server.ts';
import { readIdempotencyKey } from '../http/json-body.ts';
import { parseInput, Problem, saleNotFound, unavailable } from '../http/problem.ts';
import type { TicketFault } from '../http/replies.ts';
import { viewOrder, type OrderFinder } from './order-view.ts';
import { MAX_TICKET_CHARS, type VerifyTicket } from './ticket.ts';

const orderRequest = z.strictObject({
  saleId: z.string().regex(SALE_ID_PATTERN),
  items: z
    .array(z.strictObject({ sku: skuSchema, quantity: z.int().min(1).max(MAX_LINE_QUANTITY) }))
    .min(1)
    .max(MAX_CART_LINES)
    .refine((items) => new Set(items.map((item) => item.sku)).size === items.length, 'each SKU once'),
  ...askedOfOrder,
  /** Minor units: what the shopper was shown. */
  expectedTotal: z.int().min(1).exactOptional(),
  ticket: z.string().min(1).max(MAX_TICKET_CHARS).exactOptional(),
});
type OrderRequest = z.infer<typeof orderRequest>;
type Caller = Pick<ReserveRequest, 'userId' | 'idempotencyKey' | 'ip' | 'userAgent'>;

/** An order that was accepted just now: MySQL assigns versions from 1 on. */
const QUEUED: OrderState = { status: 'queued', version: 0, payment: 'none', reason: null };

/** A backlog shrinks by what MySQL stores; a repeat every few seconds costs little. */
const BACKLOG_RETRY_SECONDS = 5;

/**
 * A sale that Redis does not have, and what MySQL knows of it. scheduled: it was not put into Redis yet, and
 * nothing of it can have been sold. lost: Redis had it, and will have it again.
 */
export type AbsentSale =
  | { kind: 'unknown' }
  | { kind: 'lost' }
  | { kind: 'scheduled'; sale: SaleView; isDue: boolean };

export interface PlaceOrderDeps extends Stores {
  /** @throws Problem when MySQL does not answer */
  findAbsentSale: (saleId: string) => Promise<AbsentSale>;
  findOrder: OrderFinder;
  verifyTicket: VerifyTicket;
}

/** Refused for its ticket, before the sale was asked. */
type TicketRefusal = { kind: 'ticket-invalid'; fault: TicketFault };

export function createPlaceOrder({ reservations, findAbsentSale, findOrder, verifyTicket }: PlaceOrderDeps) {
  async function reserve(
    { ticket, ...request }: OrderRequest,
    caller: Caller,
  ): Promise<ReserveOutcome | TicketRefusal> {
    try {
      const asked = { fingerprint: fingerprintOf(request), ...request, ...caller };
      if (ticket === undefined) return await reservations.reserve(asked);
      const verified = await verifyTicket(ticket, asked);
      if (verified.kind === 'accepted')
        return await reservations.reserve({ ...asked, ticket: verified.ticket });
      // The order may have been accepted before, while its ticket was good.
      return (await reservations.findRepeat(asked)) ?? { kind: 'ticket-invalid', fault: verified.fault };
    } catch (error) {
      // The stock may or may not be held: only the same key finds out.
      throw unavailable('outcome_unknown', 'Repeat the request with the same Idempotency-Key.', error);
    }
  }

  return async function placeOrder(ctx: Call): Promise<void> {
    const { userId, body } = ctx.state;
    const idempotencyKey = readIdempotencyKey(ctx);
    const request = parseInput(orderRequest, body);
    const outcome = await reserve(request, { userId, idempotencyKey, ...contactOf(ctx) });
    if (outcome.kind === 'reserved') {
      accept(ctx, outcome);
    } else if (outcome.kind === 'repeated') {
      const { order, state } = await findOrder(outcome.orderNo, userId);
      ctx.set('Location', `/v1/orders/${outcome.orderNo}`);
      ctx.body = viewOrder(order, state);
    } else if (outcome.kind === 'sale-absent') {
      throw refuseAbsent(await findAbsentSale(request.saleId));
    } else {
      throw toRefusal(outcome);
    }
  };
}

function refuseAbsent(absent: AbsentSale): Problem {
  switch (absent.kind) {
    case 'unknown':
      return saleNotFound();
    case 'lost':
      return new Problem('sale_paused', 'The sale is paused.', { retryAfterSeconds: BACKLOG_RETRY_SECONDS });
    case 'scheduled': {
      const extra = { opensAt: new Date(absent.sale.opensAtMs).toISOString() };
      return absent.isDue
        ? new Problem('sale_not_open_yet', 'The sale is about to open.', { extra, retryAfterSeconds: 1 })
        : new Problem('sale_not_open_yet', 'The sale has not opened yet.', { extra });
    }
    default:
      return absent satisfies never;
  }
}

function accept(ctx: Call, outcome: ReserveOutcome & { kind: 'reserved' }): void {
  const view = viewOrder(outcome, QUEUED);
  ctx.status = 202;
  ctx.set('Location', `/v1/orders/${outcome.orderNo}`);
  if (view.pollAfterMs !== null) ctx.set('Retry-After', String(Math.ceil(view.pollAfterMs / 1_000)));
  ctx.body = view;
}

function contactOf({ ip, req }: Call): Pick<Caller, 'ip' | 'userAgent'> {
  return {
    // Behind proxies this may be any text that a client sent: what is no address, or too long, is not kept.
    ip: isIP(ip) === 0 || ip.length > MAX_IP_CHARS ? '' : ip,
    userAgent: (req.headers['user-agent'] ?? '').slice(0, MAX_USER_AGENT_CHARS),
  };
}

function toRefusal(
  outcome: Exclude<ReserveOutcome | TicketRefusal, { kind: 'reserved' | 'repeated' | 'sale-absent' }>,
): Problem {
  switch (outcome.kind) {
    case 'ticket-required':
      return new Problem('ticket_required', 'The sale takes orders with a ticket of the shop only.');
    case 'ticket-invalid':
      return ticketInvalid(outcome.fault);
    case 'ticket-expired':
      return ticketInvalid('expired');
    case 'total-too-low':
      return ticketInvalid('nothing_to_pay');
    case 'ticket-used':
      return new Problem('ticket_used', 'The ticket was used for another order of yours.', {
        extra: { orderNo: outcome.orderNo },
      });
    case 'total-changed': {
      const { total, currency } = outcome;
      return new Problem('total_changed', 'The order comes to another total than the expected one.', {
        extra: { total, currency },
      });
    }
    case 'sold-out': {
      const { sku, available } = outcome;
      return new Problem('sold_out', 'There are not enough units left.', { extra: { sku, available } });
    }
    case 'limit-reached': {
      const { sku, limit, bought } = outcome;
      return new Problem('limit_reached', describeLimit('of this SKU', limit, bought), {
        extra: { sku, limit, bought },
      });
    }
    case 'sale-limit-reached': {
      const { limit, bought } = outcome;
      return new Problem('sale_limit_reached', describeLimit('in this sale', limit, bought), {
        extra: { limit, bought },
      });
    }
    case 'key-reused':
      return new Problem('idempotency_key_reused', 'This Idempotency-Key was used for another request.');
    case 'unknown-sku':
      return new Problem('unknown_sku', 'The sale has no such SKU.', { extra: { sku: outcome.sku } });
    case 'paused':
      return new Problem('sale_paused', 'The sale is paused.', {
        retryAfterSeconds: BACKLOG_RETRY_SECONDS,
      });
    case 'not-open-yet':
      return new Problem('sale_not_open_yet', 'The sale has not opened yet.', {
        extra: { opensAt: new Date(outcome.opensAtMs).toISOString() },
      });
    case 'closed':
      return new Problem('sale_closed', 'The sale is over.');
    case 'store-full':
      return new Problem(
        'stock_unavailable',
        'No order can be taken right now. Repeat with the same Idempotency-Key.',
        { retryAfterSeconds: BACKLOG_RETRY_SECONDS },
      );
    case 'backlog-full':
      return new Problem('backlog_full', 'More orders wait than can be handled in time; nothing was taken.', {
        retryAfterSeconds: BACKLOG_RETRY_SECONDS,
      });
    case 'memory-full':
      return new Problem('backlog_full', 'There is no room for more orders right now; nothing was taken.', {
        retryAfterSeconds: BACKLOG_RETRY_SECONDS,
      });
  }
}

/** True of a shopper with none, with some and with all: what is theirs counts held and sold units alike. */
function describeLimit(ofWhat: string, limit: number, bought: number): string {
  const left = Math.max(0, limit - bought);
  const more = left === 0 ? 'no more' : `at most ${left} more`;
  return `One shopper may have ${limit} ${ofWhat}; you have ${bought}, so you may order ${more}.`;
}

function ticketInvalid(reason: TicketFault): Problem {
  return new Problem('ticket_invalid', `The ticket is refused: ${reason.replaceAll('_', ' ')}.`, {
    extra: { reason },
  });
}
