/** When a client is to ask for an order again: by its status, and while the order is queued by its outbox. */

import type { VisibleOrder } from '../../orders/content.ts';
import { orderDeadlineMs, type OrderState, type OrderStatus } from '../../orders/order.ts';
import type { StatusBoard } from '../../status/board.ts';

/** In ms: soon while the order is being stored, then at a human pace, and never once it has ended. */
const POLL_AFTER_MS: Record<OrderStatus, number | null> = {
  queued: 1_000,
  awaiting_payment: 2_000,
  paid: null,
  cancelled: null,
  failed: null,
};

/** The most for a queued order, in ms: a shopper looks at a page that long, and storing may go on. */
const MOST_MS = 10_000;
/** A pause takes at most this part of the order's remaining time to pay. */
const PART_OF_TIME_LEFT = 0.1;
/** Random jitter, up to 20 % sooner, so that callers do not all return at once. */
const JITTER = 0.2;

export type PollAdvice = ReturnType<typeof createPollAdvice>;

/**
 * @param board is read by a loop of its own, so that no answer costs a command
 * @param draw a number from 0 to below 1, at random
 */
export function createPollAdvice(board: Pick<StatusBoard, 'current'>, draw = Math.random) {
  return {
    /** In ms; null: the status is final. */
    pollAfterMs(order: VisibleOrder, state: OrderState): number | null {
      const usualMs = POLL_AFTER_MS[state.status];
      if (state.status !== 'queued' || usualMs === null) return usualMs;
      const outbox = board.current('outboxes')?.find(({ saleId }) => saleId === order.saleId);
      // Nothing waits, or Redis could not be asked.
      if (!outbox) return usualMs;
      // At a steady pace a new order waits as long as the oldest has. Where nothing is stored, that grows.
      const { oldestAtMs, oldestMs } = outbox;
      const timeLeftMs = orderDeadlineMs(order, state) - (oldestAtMs + oldestMs);
      const pauseMs = Math.min(oldestMs, MOST_MS, timeLeftMs * PART_OF_TIME_LEFT);
      return Math.max(usualMs, Math.round(pauseMs * (1 - JITTER * draw())));
    },
  };
}
