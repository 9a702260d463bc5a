/**
 * `Prefer: wait=N` on a purchase: its answer comes once the order is durable in MySQL, or when the wait has
 * ended. The call waits with neither a place in the lane nor a share of the bodies.
 */

import { z } from 'zod';
import type { Metrics } from '../../metrics.ts';
import type { ReservedOrder } from '../../orders/reservations.redis.ts';
import type { Storing, StoringEnd } from '../../orders/storing.ts';
import type { Call } from '../http/http-server.ts';
import { Problem, requestIdOf } from '../http/problem.ts';
import { findOrder, viewOrder, type Finder } from './find-order.ts';

/** In seconds. Load balancers and browsers give up after 10 to 60, and a shopper long before. */
const MAX_WAIT_SECONDS = 7;
/** Calls that wait at once. Each keeps its connection and its cart, together some 20 KB. */
const MAX_WAITING = 1_000;

/** What is read of a purchase's answer: it has been accepted and is not stored yet. */
const queuedOrder = z.object({ orderNo: z.string(), status: z.literal('queued') });

/** What of Koa's context is used as well. */
type WaitingCall = Pick<Call, 'req' | 'res' | 'state' | 'status' | 'body' | 'get' | 'set' | 'remove'>;

export type Waits = ReturnType<typeof createWaits>;

export function createWaits(shop: Finder & { metrics: Metrics }, storing: Storing) {
  const { metrics } = shop;
  let waiting = 0;
  metrics.watchWaiting(() => waiting);

  /** @returns gives the place back, as does the caller's going away */
  function takePlace({ res }: WaitingCall): () => void {
    let hasPlace = !res.closed;
    if (hasPlace) waiting += 1;
    const leave = (): void => {
      if (hasPlace) waiting -= 1;
      hasPlace = false;
    };
    res.once('close', leave);
    return leave;
  }

  async function placeAndWait(call: WaitingCall, next: () => Promise<unknown>, seconds: number) {
    const untilMs = performance.now() + seconds * 1_000;
    await next();
    const { orderNo } = queuedOrder.safeParse(call.body).data ?? {};
    // Refused, or a repeat of an order that is stored already.
    if (orderNo === undefined) return;
    if (waiting >= MAX_WAITING || !storing.hasRoom()) {
      metrics.waitEnded('full');
      return;
    }
    const leave = takePlace(call);
    const end = await storing.store(orderNo, untilMs).finally(leave);
    const known = end.kind === 'late' ? await lookAgain(shop, orderNo, call) : end;
    metrics.waitEnded(known.kind);
    const headers = { 'Preference-Applied': `wait=${seconds}` };
    call.set('Preference-Applied', headers['Preference-Applied']);
    if (known.kind === 'failed') throw orderFailed(known, headers);
    if (known.kind === 'late') return;
    // A repeat keeps its 200.
    if (call.status === 202) call.status = 201;
    call.remove('Retry-After');
    call.body = viewOrder(known.order, known.state);
  }

  return {
    /** Around the other steps of a purchase. One that does not ask to wait goes through untouched. */
    around(call: WaitingCall, next: () => Promise<unknown>): Promise<unknown> {
      if (call.req.headers['prefer'] === undefined) return next();
      const seconds = readWait(call.get('Prefer'));
      return seconds === undefined ? next() : placeAndWait(call, next, seconds);
    },
  };
}

/** A relay may have stored it meanwhile, and no answer is older than one that was given. */
async function lookAgain(shop: Finder, orderNo: string, { state, req }: WaitingCall): Promise<StoringEnd> {
  const asker = { userId: state.userId, requestId: requestIdOf(req) };
  const found = await findOrder(shop, orderNo, asker).catch(() => undefined);
  if (!found || found.state.status === 'queued') return { kind: 'late' };
  return { kind: found.state.status === 'failed' ? 'failed' : 'stored', ...found };
}

function orderFailed({ order, state }: ReservedOrder, headers: Record<string, string>): Problem {
  return new Problem('order_failed', 'The order could not be stored, and has failed.', {
    extra: { order: viewOrder(order, state) },
    headers: { ...headers, Location: `/v1/orders/${order.orderNo}` },
  });
}

/** Those of a header, between commas; a value in quotes may have commas (RFC 7240, 2). */
const PREFERENCES = /(?:[^,"]|"(?:[^"\\]|\\.)*")+/g;
const WAIT = /^\s*wait\s*(?:=\s*(?:(\d{1,9})|"(\d{1,9})")\s*)?(?:;.*)?$/i;

/**
 * The wait that a `Prefer` header asks for, in seconds and within the bound; undefined: none that is
 * understood, and what is not understood is ignored. Of several the first counts.
 */
export function readWait(prefer: string): number | undefined {
  for (const preference of prefer.match(PREFERENCES) ?? []) {
    const found = WAIT.exec(preference);
    if (!found) continue;
    const seconds = Number(found[1] ?? found[2] ?? 0);
    return seconds > 0 ? Math.min(seconds, MAX_WAIT_SECONDS) : undefined;
  }
  return undefined;
}
