/** What a purchase is answered with where it is refused, and which of its answers are final. */

import type { ReserveOutcome } from '../../orders/reserve.redis.ts';
import { isSoldOut } from '../../sales/sale.ts';
import type { SaleView } from '../../sales/stock.redis.ts';
import { Problem, saleNotFound, type TicketFault } from '../http/problem.ts';
import type { OpenOrderReply } from '../http/replies.ts';
import type { CountedAttempt } from './purchase-limits.ts';
import type { SaleLook } from './sale-views.ts';

/** A backlog shrinks by what MySQL stores; a repeat every few seconds costs little. */
const BACKLOG_RETRY_SECONDS = 5;

/** Refused for its ticket, its total or its caller's pace, before the sale was asked. */
type EarlyRefusal =
  | { kind: 'total-not-payable'; total: number; currency: string; fault: string }
  | { kind: 'ticket-invalid'; fault: TicketFault }
  | ({ kind: 'too-many' } & NonNullable<CountedAttempt['over']>);

export type PurchaseOutcome = ReserveOutcome | EarlyRefusal;

/** As a sale in the same state is refused that Redis has. */
export function refuseAbsent(absent: SaleLook): Problem {
  switch (absent.kind) {
    case 'unknown':
      return saleNotFound();
    case 'lost':
      return toRefusal({ kind: 'paused' }, []);
    // Redis has got it since.
    case 'in-redis':
    case 'scheduled': {
      const { state, opensAtMs } = absent.view;
      if (state === 'paused') return toRefusal({ kind: 'paused' }, []);
      const extra = { opensAt: new Date(opensAtMs).toISOString() };
      return Date.now() >= opensAtMs
        ? new Problem('sale_not_open_yet', { extra, retryAfterSeconds: 1 })
        : new Problem('sale_not_open_yet', { extra });
    }
    default:
      return absent satisfies never;
  }
}

export function toRefusal(
  outcome: Exclude<PurchaseOutcome, { kind: 'reserved' | 'repeated' | 'sale-absent' }>,
  openOrders: OpenOrderReply[],
): Problem {
  switch (outcome.kind) {
    case 'ticket-required':
      return new Problem('ticket_required');
    case 'ticket-invalid':
      return ticketInvalid(outcome.fault);
    case 'ticket-expired':
      return ticketInvalid('expired');
    case 'total-too-low':
      return ticketInvalid('nothing_to_pay');
    case 'ticket-used':
      return new Problem('ticket_used', {
        extra: { orderNo: outcome.orderNo },
      });
    case 'total-changed': {
      const { total, currency } = outcome;
      return new Problem('total_changed', {
        extra: { total, currency },
      });
    }
    case 'total-not-payable': {
      const { total, currency, fault } = outcome;
      return new Problem('total_not_payable', {
        detail: `The order could not be paid: ${fault}.`,
        extra: { total, currency },
      });
    }
    case 'sold-out': {
      const { sku, available, held } = outcome;
      return new Problem('sold_out', {
        extra: { sku, available, held, openOrders },
      });
    }
    case 'limit-reached': {
      const { sku, limit, bought } = outcome;
      return new Problem('limit_reached', {
        detail: describeLimit('of this SKU', limit, bought),
        extra: { sku, limit, bought, openOrders },
      });
    }
    case 'sale-limit-reached': {
      const { limit, bought } = outcome;
      return new Problem('sale_limit_reached', {
        detail: describeLimit('in this sale', limit, bought),
        extra: { limit, bought, openOrders },
      });
    }
    case 'too-many-unpaid': {
      const { limit, unpaid } = outcome;
      return new Problem('too_many_unpaid', {
        extra: { limit, unpaid },
      });
    }
    case 'too-many': {
      const { name, retryAfterSeconds } = outcome;
      const by = name === 'user' ? 'It was tried' : 'From this address it was tried';
      return new Problem('too_many_purchases', { detail: `${by} too often to buy.`, retryAfterSeconds });
    }
    case 'key-reused':
      return new Problem('idempotency_key_reused');
    case 'unknown-sku':
      return new Problem('unknown_sku', { extra: { sku: outcome.sku } });
    case 'called-off':
      return new Problem('called_off', { extra: { sku: outcome.sku } });
    case 'paused':
      return new Problem('sale_paused', {
        retryAfterSeconds: BACKLOG_RETRY_SECONDS,
      });
    case 'not-open-yet':
      return new Problem('sale_not_open_yet', {
        extra: { opensAt: new Date(outcome.opensAtMs).toISOString() },
      });
    case 'closed':
      return new Problem('sale_closed');
    case 'store-full':
      return new Problem('stock_unavailable', { retryAfterSeconds: BACKLOG_RETRY_SECONDS });
    case 'backlog-full':
      return new Problem('backlog_full', {
        retryAfterSeconds: BACKLOG_RETRY_SECONDS,
      });
    case 'memory-full':
      return new Problem('backlog_full', {
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
  return new Problem('ticket_invalid', {
    detail: `The ticket is refused: ${reason.replaceAll('_', ' ')}.`,
    extra: { reason },
  });
}

// Final answers.

/**
 * Whether its caller has nothing left to come back for: the order is theirs, or nothing of this sale can be.
 * Units that unpaid orders hold may come back, and so may a sale that is paused.
 * @param readSale at most a second old; asked only where another SKU may be left
 */
export async function isFinalAnswer(
  outcome: PurchaseOutcome,
  readSale: () => Promise<SaleView>,
): Promise<boolean> {
  switch (outcome.kind) {
    case 'reserved':
    case 'repeated':
    case 'closed':
    case 'too-many-unpaid':
      return true;
    case 'sale-limit-reached':
      return outcome.bought >= outcome.limit;
    case 'limit-reached':
      return outcome.bought >= outcome.limit && isLast(outcome.sku, readSale);
    case 'sold-out':
      return outcome.available + outcome.held === 0 && isLast(outcome.sku, readSale);
    case 'called-off':
      return isLast(outcome.sku, readSale);
    case 'sale-absent':
    case 'paused':
    case 'not-open-yet':
    case 'unknown-sku':
    case 'key-reused':
    case 'total-changed':
    case 'total-too-low':
    case 'total-not-payable':
    case 'ticket-required':
    case 'ticket-invalid':
    case 'ticket-expired':
    case 'ticket-used':
    case 'too-many':
    case 'backlog-full':
    case 'memory-full':
    case 'store-full':
      return false;
    default:
      return outcome satisfies never;
  }
}

/** Whether nothing but this SKU is left, or may come back. Where no store tells, the answer is not final. */
async function isLast(sku: string, readSale: () => Promise<SaleView>): Promise<boolean> {
  try {
    const { skus } = await readSale();
    const others = skus.filter((each) => each.sku !== sku);
    return isSoldOut(others, true);
  } catch {
    return false;
  }
}
