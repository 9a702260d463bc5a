/**
 * `Prefer: wait=N` on a purchase: its answer comes once the order is durable in MySQL, or when the wait has
 * ended. The call waits with neither a place in the lane nor a share of the bodies.
 */

import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import type { Metrics } from '../../metrics.ts';
import { wishCancel } from '../../orders/both-stores.ts';
import type { Order } from '../../orders/content.ts';
import type { Storing, StoringEnd } from '../../orders/storing.ts';
import type { CallContext } from '../http/entry.ts';
import { Problem, requestIdOf } from '../http/problem.ts';
import { findOrder, viewOrder, type Finder } from './find-order.ts';
import type { Shop } from './orders.ts';

/** In seconds. Load balancers and browsers give up after 10 to 60, and a shopper long before. */
const MAX_WAIT_SECONDS = 7;
/** Calls that wait at once. Each keeps its connection and its cart, together some 20 KB. */
const MAX_WAITING = 1_000;
/** Of one user: their orders of a moment, each repeated. More would take the places of others. */
const MAX_WAITING_OF_USER = 10;

/**
 * For what follows the end of a wait: a look at the order, or the wish to cancel it. A command to Redis may
 * take two seconds, and MySQL is asked after it.
 */
const AFTERWARDS_MAX_MS = 2_500;

/** What is read of a purchase's body, which is valid. */
const cancellingBody = z.object({ onTimeout: z.literal('cancel') });

/** What is read of a purchase's answer: it has been accepted and is not stored yet. */
const queuedOrder = z.object({ orderNo: z.string(), status: z.literal('queued') });

export type Waits = ReturnType<typeof createWaits>;

type Waited = Finder & Pick<Shop, 'finalAnswerHeader'> & { metrics: Metrics; clock: Clock };

/** @param waitingMax calls that wait at once */
export function createWaits(shop: Waited, storing: Storing, waitingMax = MAX_WAITING) {
  const { metrics, finalAnswerHeader, clock } = shop;
  let waiting = 0;
  const ofUsers = new Map<string, number>();
  metrics.watchWaiting(() => waiting);

  function count(userId: string, change: 1 | -1): void {
    waiting += change;
    const ofUser = (ofUsers.get(userId) ?? 0) + change;
    if (ofUser === 0) ofUsers.delete(userId);
    else ofUsers.set(userId, ofUser);
  }

  function hasRoom({ userId }: CallContext['state']): boolean {
    if ((ofUsers.get(userId) ?? 0) >= MAX_WAITING_OF_USER) return false;
    return waiting < waitingMax && storing.hasRoom();
  }

  /** @returns gives the place back, as does the caller's going away */
  function takePlace({ res, state: { userId } }: CallContext): () => void {
    let hasPlace = !res.closed;
    if (hasPlace) count(userId, 1);
    const leave = (): void => {
      if (hasPlace) count(userId, -1);
      hasPlace = false;
    };
    res.once('close', leave);
    return leave;
  }

  async function placeAndWait(call: CallContext, next: () => Promise<unknown>, seconds: number) {
    const untilMs = clock.nowMs() + seconds * 1_000;
    await next();
    const { orderNo } = queuedOrder.safeParse(call.body).data ?? {};
    // Refused, or a repeat of an order that is stored already.
    if (orderNo === undefined) return;
    if (!hasRoom(call.state)) {
      metrics.waitEnded('full');
      return;
    }
    const leave = takePlace(call);
    try {
      const end = await waitForEnd(call, orderNo, untilMs);
      metrics.waitEnded(end.kind);
      if (end.kind !== 'late') call.remove('Retry-After');
      // Its caller may buy again, or is to repeat.
      const isAccepted = end.kind === 'stored' || end.kind === 'late';
      if (!isAccepted && finalAnswerHeader) call.remove(finalAnswerHeader.name);
      answer(shop, call, orderNo, end, { 'Preference-Applied': `wait=${seconds}` });
    } finally {
      leave();
    }
  }

  async function waitForEnd(call: CallContext, orderNo: string, untilMs: number): Promise<WaitEnd> {
    const end = await storing.store(orderNo, untilMs);
    if (end.kind !== 'late') return end;
    if (!cancellingBody.safeParse(call.state.body).success)
      return within(clock, lookAgain(shop, orderNo, call), { kind: 'late' });
    // A store that has not answered may have taken the wish, or take it yet.
    return within(clock, cancel(call, orderNo, end.order), { kind: 'unknown' });
  }

  async function cancel(call: CallContext, orderNo: string, order: Order | undefined): Promise<WaitEnd> {
    if ((await wishCancel(shop, orderNo, order)) === 'wished') return { kind: 'cancelled' };
    const end = await lookAgain(shop, orderNo, call);
    return end.kind === 'late' ? { kind: 'unknown' } : end;
  }

  return {
    /** Around the other steps of a purchase. One that does not ask to wait goes through untouched. */
    around(call: CallContext, next: () => Promise<unknown>): Promise<unknown> {
      if (call.req.headers['prefer'] === undefined) return next();
      const seconds = readWait(call.get('Prefer'));
      return seconds === undefined ? next() : placeAndWait(call, next, seconds);
    },
  };
}

type WaitEnd = StoringEnd | { kind: 'cancelled' | 'unknown' };

/** A relay may have stored it meanwhile, and no answer is older than one that was given. */
async function lookAgain(shop: Finder, orderNo: string, { state, req }: CallContext): Promise<StoringEnd> {
  const asker = { userId: state.userId, requestId: requestIdOf(req) };
  const found = await findOrder(shop, orderNo, asker);
  if (found.state.status === 'queued') return { kind: 'late' };
  return { kind: found.state.status === 'failed' ? 'failed' : 'stored', ...found };
}

/** @param otherwise how it has ended where `end` fails or takes too long */
async function within(clock: Clock, end: Promise<WaitEnd>, otherwise: WaitEnd): Promise<WaitEnd> {
  let endTimeout = (): void => {};
  const timeout = new Promise<WaitEnd>((resolve) => {
    endTimeout = clock.after(AFTERWARDS_MAX_MS, () => resolve(otherwise));
  });
  return Promise.race([end.catch(() => otherwise), timeout]).finally(endTimeout);
}

/** @throws Problem where there is no order to be had */
function answer(
  shop: Finder,
  call: CallContext,
  orderNo: string,
  end: WaitEnd,
  applied: Record<string, string>,
): void {
  const headers = { ...applied, Location: `/v1/orders/${orderNo}` };
  switch (end.kind) {
    case 'stored':
      // A repeat keeps its 200.
      if (call.status === 202) call.status = 201;
      call.body = viewOrder(shop, end.order, end.state);
      break;
    case 'late':
      break;
    case 'failed':
      throw new Problem('order_failed', {
        extra: { order: viewOrder(shop, end.order, end.state) },
        headers,
      });
    case 'cancelled':
      throw new Problem('wait_timed_out', {
        extra: { orderNo },
        headers,
      });
    case 'unknown':
      throw new Problem('outcome_unknown', {
        detail: 'The order was not stored in time, and may be cancelled.',
        retryAfterSeconds: 1,
        headers,
      });
    default:
      end satisfies never;
  }
  call.set('Preference-Applied', applied['Preference-Applied'] ?? '');
}

/** A quote that does not end takes the square of the header's length, before any token is looked at. */
const PREFER_LENGTH_MAX = 256;
/** Those of a header, between commas; a value in quotes may have commas (RFC 7240, 2). */
const PREFERENCES = /(?:[^,"]|"(?:[^"\\]|\\.)*")+/g;
const WAIT = /^\s*wait\s*(?:=\s*(?:(\d{1,9})|"(\d{1,9})")\s*)?(?:;.*)?$/i;

/**
 * The wait that a `Prefer` header asks for, in seconds and within the bound; undefined: none that is
 * understood, and what is not understood is ignored. Of several the first counts.
 */
export function readWait(prefer: string): number | undefined {
  if (prefer.length > PREFER_LENGTH_MAX) return undefined;
  for (const preference of prefer.match(PREFERENCES) ?? []) {
    const found = WAIT.exec(preference);
    if (!found) continue;
    const seconds = Number(found[1] ?? found[2] ?? 0);
    return seconds > 0 ? Math.min(seconds, MAX_WAIT_SECONDS) : undefined;
  }
  return undefined;
}
