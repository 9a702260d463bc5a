/**
 * When a client is to ask for an order again: by its status, and while the order is queued by what waits
 * before it in the outbox of its sale and how fast that is stored.
 */

import { SYSTEM_CLOCK } from '../../clock.ts';
import type { VisibleOrder } from '../../orders/content.ts';
import { orderDeadlineMs, type OrderState, type OrderStatus } from '../../orders/order.ts';
import type { StatusBoard } from '../../status/board.ts';
import type { OutboxBacklog, Status } from '../../status/status.ts';

/**
 * In ms: soon while the order is being stored, then at a human pace, and never once it has ended. Whole
 * seconds, because `Retry-After` beside the 202 counts in seconds and must name the same moment.
 */
const POLL_AFTER_MS: Record<OrderStatus, number | null> = {
  queued: 1_000,
  awaiting_payment: 2_000,
  paid: null,
  cancelled: null,
  failed: null,
};

/** The least of a queued order, in ms, and what holds where nothing is known. */
const LEAST_MS = 1_000;
/** The most, in ms: a shopper looks at a page that long, and storing may begin again at any moment. */
const MOST_MS = 10_000;
/** No advice takes more than this part of what is left of the order's time to pay. */
const PART_OF_TIME_LEFT = 0.1;
/** So much sooner, at random, are those told who would come back with many others at one moment. */
const SPREAD = 0.2;
/** Two looks that lie further apart, in ms, tell no pace: nobody has asked in between. */
const LOOKS_APART_MAX_MS = 10_000;

/** An outbox as it was looked at. */
interface Queue extends OutboxBacklog {
  /** By the clock. */
  readAtMs: number;
  /** Orders that are stored, a ms; undefined: not known yet. */
  pace: number | undefined;
}

export type PollAdvice = ReturnType<typeof createPollAdvice>;

/**
 * @param board is read by a loop of its own, so that no answer costs a command
 * @param clock the clock of the board
 * @param draw a number from 0 to below 1, at random
 */
export function createPollAdvice(
  board: Pick<StatusBoard, 'current' | 'ageMs'>,
  clock = SYSTEM_CLOCK,
  draw = Math.random,
) {
  let seen: Status['outboxes'] | undefined;
  /** By their sales. */
  let queues = new Map<string, Queue>();

  /** Once a look, whatever number of callers asks. */
  function note(outboxes: Status['outboxes']): void {
    const readAtMs = clock.nowMs() - board.ageMs('outboxes');
    queues = new Map(
      outboxes.map((outbox): [string, Queue] => {
        const pace = paceOf(outbox, readAtMs, queues.get(outbox.saleId));
        return [outbox.saleId, { ...outbox, readAtMs, pace }];
      }),
    );
    seen = outboxes;
  }

  return {
    /** In ms; null: the status is final. */
    pollAfterMs(order: VisibleOrder, state: OrderState): number | null {
      if (state.status !== 'queued') return POLL_AFTER_MS[state.status];
      const outboxes = board.current('outboxes');
      // Not read for a while: what it was says nothing of what it is.
      if (outboxes === undefined) return LEAST_MS;
      if (outboxes !== seen) note(outboxes);
      const queue = queues.get(order.saleId);
      if (queue === undefined) return LEAST_MS;
      return spread(longestPauseMs(queue, order, state, clock.nowMs()), draw);
    },
  };
}

/** Orders that have left, a ms: of the last look and, half as much each, of those before it. */
function paceOf(outbox: OutboxBacklog, readAtMs: number, before: Queue | undefined): number | undefined {
  const passedMs = before ? readAtMs - before.readAtMs : 0;
  if (!before || passedMs <= 0 || passedMs > LOOKS_APART_MAX_MS) return undefined;
  const stored = outbox.left - before.left;
  // The outbox was made anew.
  if (stored < 0) return undefined;
  // What waits may be an entry that nothing can be done with, and others are stored as fast as ever.
  if (stored === 0 && outbox.waiting === before.waiting) return before.pace;
  return before.pace === undefined ? stored / passedMs : (before.pace + stored / passedMs) / 2;
}

/** @param now by the clock of `readAtMs`; all other times are of Redis' clock */
function longestPauseMs(
  { waiting, oldestAtMs, oldestMs, readAtMs, pace = 0 }: Queue,
  order: VisibleOrder,
  state: OrderState,
  now: number,
): number {
  // As if those that wait had come evenly. One that came after the look is behind them all.
  const place = oldestMs > 0 ? Math.min(1, Math.max(0, (order.reservedAtMs - oldestAtMs) / oldestMs)) : 1;
  // Where nothing is stored, for as long again as that has lasted.
  const dueMs = pace > 0 ? (waiting * place) / pace : oldestMs;
  const nowMs = oldestAtMs + oldestMs + now - readAtMs;
  const timeLeftMs = orderDeadlineMs(order, state) - nowMs;
  return Math.min(dueMs, MOST_MS, timeLeftMs * PART_OF_TIME_LEFT);
}

/** @returns whole seconds, in ms: callers with the same pause do not all return at once */
function spread(pauseMs: number, draw: () => number): number {
  if (pauseMs <= LEAST_MS) return LEAST_MS;
  const seconds = (pauseMs * (1 - SPREAD * draw())) / 1_000;
  // Rounded up or down at random, by how near either is.
  return Math.max(LEAST_MS, Math.floor(seconds + draw()) * 1_000);
}
