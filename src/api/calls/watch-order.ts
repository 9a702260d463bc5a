/** The calls that wait for changes of an order: the long poll, and the stream of events. */

import type { ServerResponse } from 'node:http';
import { z } from 'zod';
import type { Clock } from '../../clock.ts';
import { isFinal } from '../../orders/order.ts';
import type { ReservedOrder } from '../../orders/reservations.redis.ts';
import type { CallContext, ShopCalls } from '../http/entry.ts';
import type { Lane } from '../http/http-server.ts';
import { orderNotFound, parseInput, requestIdOf } from '../http/problem.ts';
import { noBody, orderReply } from '../http/replies.ts';
import { isKnown, wholeNumber } from '../http/request.ts';
import type { WatchEnd, Watchers } from '../watchers.ts';
import { findOrder, sourcedOrderReply, viewOrder, type FoundOrder } from './find-order.ts';
import {
  answerOrder,
  getOrder,
  isAssigned,
  knownVersionOf,
  type Shop,
  statusOptions,
  tagOf,
} from './orders.ts';

/** A long poll waits at most so long: below what proxies commonly cut off (30 s). */
const MAX_WAIT_SECONDS = 25;
/** A stream says so often that it lives: below what proxies and our own server cut off. */
const HEARTBEAT_MS = 15_000;
/** After how long a client comes back whose stream broke, in ms. */
const RETRY_MS = 2_000;
/** Where the process stops all come back, spread over so long. */
const STOPPING_RETRY_SPREAD_MS = 4_000;

export interface WatchShop extends Shop {
  clock: Clock;
  watchers: Watchers;
  /** Bounds the look-up that a watch begins with. No place in it is held while a caller waits. */
  looks: Lane;
}

/** Seconds. */
const wait = wholeNumber.pipe(z.int().max(MAX_WAIT_SECONDS));
const waitOptions = z.strictObject({ wait });

const maybeSourcedReply = orderReply
  .extend({ source: sourcedOrderReply.shape.source.optional() })
  .meta({ id: 'OrderWithSource', description: 'An order of the caller.' });

export const watchCalls = {
  'GET /v1/orders/:orderNo': {
    id: 'getOrder',
    does: 'An order of the caller; on request once it has changed',
    who: 'shopper',
    lane: 'others',
    isHot: true,
    watch: pollOrder,
    query: statusOptions.extend({
      wait: wait.optional().describe('Answers once the order has changed, after at most so many seconds.'),
    }),
    reads: ['If-None-Match'],
    replies: { 200: maybeSourcedReply, 304: noBody },
    gives: { 200: ['ETag'], 304: ['ETag'] },
    refuses: ['order_not_found', 'too_many_watchers', 'watchers_full', 'status_unavailable'],
    handle: getOrder,
  },
  'GET /v1/orders/:orderNo/events': {
    id: 'watchOrder',
    does: 'An order of the caller now and after each change, as server-sent events',
    who: 'shopper',
    lane: 'watches',
    reads: ['Last-Event-ID'],
    replies: { 200: z.string().describe('The order now, and after each change.'), 204: noBody },
    isEventStream: true,
    refuses: ['order_not_found', 'too_many_watchers', 'watchers_full', 'status_unavailable'],
    handle: streamOrder,
  },
} satisfies ShopCalls<WatchShop>;

/** GET /v1/orders/:orderNo?wait=: as without it, once the order has changed; other queries are passed on. */
async function pollOrder(shop: WatchShop, ctx: CallContext, next: () => Promise<unknown>): Promise<unknown> {
  if (ctx.query['wait'] === undefined) return next();
  const { wait: seconds } = parseInput(waitOptions, { ...ctx.query });
  if (seconds === 0) return next();
  // These calls last for as long as they wait, and would hide how long the others take.
  ctx['_matchedRoute'] = '/v1/orders/:orderNo?wait';
  const { promise, resolve, reject } = withResolvers<FoundOrder | undefined>();
  const watch = shop.watchers.enter('poll', orderNoOf(ctx), callerOf(ctx), {
    tell: resolve,
    end: (why) => (why === 'gone' ? reject(orderNotFound()) : resolve(undefined)),
  });
  onGone(ctx, () => resolve(undefined));
  try {
    const found = await lookUp(shop, ctx);
    const endWait = shop.clock.after(Math.min(seconds * 1_000, leftMs(ctx)), () => resolve(undefined));
    if (isAwaited(ctx, found)) watch.begin(found.state.version);
    else resolve(undefined);
    const changed = await promise.finally(endWait);
    // At the end of the wait as at its change: no answer is older than one that was given meanwhile.
    answerOrder(shop, ctx, changed ?? (await newestOf(shop, ctx, found)));
  } finally {
    watch.leave();
  }
  return undefined;
}

/**
 * With a tag in If-None-Match while it is the present one; without, unless the status is final. `*` names
 * none, and would be answered with 304 whatever came.
 */
function isAwaited(ctx: CallContext, { state }: FoundOrder): boolean {
  const known = ctx.get('If-None-Match').trim();
  if (known === '*') return false;
  return known === '' ? !isFinal(state.status) : isKnown(tagOf(state), known);
}

/** GET /v1/orders/:orderNo/events: the order, and again after each change until its status is final. */
async function streamOrder(shop: WatchShop, ctx: CallContext): Promise<void> {
  const lastId = /^\d{1,9}$/.exec(ctx.get('Last-Event-ID').trim())?.[0];
  const knownVersion = lastId === undefined ? -1 : Number(lastId);
  // The caller went while its token was verified: no event comes any more that would give its place back.
  if (ctx.res.closed || ctx.req.socket.destroyed) throw orderNotFound();
  const stream = createStream(shop, ctx.res, { expiresInMs: leftMs(ctx) });
  const watch = shop.watchers.enter('stream', orderNoOf(ctx), callerOf(ctx), stream);
  onGone(ctx, watch.leave);
  const { order, state } = await lookUp(shop, ctx, Math.max(0, knownVersion));
  const isNews = state.version > knownVersion || !isAssigned(state);
  if (ctx.method === 'HEAD') {
    ctx.status = 200;
    ctx.set('Content-Type', EVENT_STREAM);
  } else if (isFinal(state.status) && !isNews) {
    // By it a client knows that nothing follows, and does not come back.
    ctx.status = 204;
  } else {
    // From here on the answer is the stream's.
    ctx.respond = false;
    stream.open(isNews ? { order, state } : undefined);
    watch.begin(state.version);
  }
}

/** Of answers that queue on one connection Node closes only the first when it breaks. */
function onGone({ res, req }: CallContext, leave: () => void): void {
  const { socket } = req;
  function gone(): void {
    res.off('close', gone);
    socket.off('close', gone);
    leave();
  }
  res.once('close', gone);
  socket.once('close', gone);
}

/** What a call found that has waited in vain, or what is newer. */
async function newestOf(shop: WatchShop, ctx: CallContext, found: FoundOrder): Promise<FoundOrder> {
  if (ctx.res.closed || !isAwaited(ctx, found)) return found;
  return lookUp(shop, ctx, found.state.version);
}

const EVENT_STREAM = 'text/event-stream';

/**
 * Writes states to a client that may read slowly. What it has not read is kept by the connection up to Node's
 * high-water mark; beyond, the newest state alone waits for it. One that reads nothing at all gets no sign of
 * life any more, and is cut off like any connection on which nothing moves.
 */
function createStream(shop: WatchShop, response: ServerResponse, { expiresInMs }: { expiresInMs: number }) {
  const untilMs = shop.clock.nowMs() + expiresInMs;
  let wroteAtMs = shop.clock.nowMs();
  /** The newest state, where it could not be written yet. */
  let owed: ReservedOrder | undefined;
  // A connection that breaks is closed, and nothing else is to be done.
  response.on('error', () => {});

  function write(text: string): void {
    wroteAtMs = shop.clock.nowMs();
    // The caller has gone meanwhile.
    if (!response.closed) response.write(text);
  }

  function writeOwed(): void {
    if (!owed || response.writableNeedDrain || response.writableEnded) return;
    const { order, state } = owed;
    owed = undefined;
    write(`id: ${state.version}\nevent: order\ndata: ${JSON.stringify(viewOrder(shop, order, state))}\n\n`);
    if (isFinal(state.status)) response.end();
  }

  return {
    open(found: ReservedOrder | undefined): void {
      response.on('drain', writeOwed);
      // Not to be kept back by a proxy: nginx goes by the second.
      response.writeHead(200, { 'Content-Type': EVENT_STREAM, 'X-Accel-Buffering': 'no' });
      write(`retry: ${RETRY_MS}\n\n`);
      if (found) this.tell(found);
    },

    tell(found: ReservedOrder): void {
      owed = found;
      writeOwed();
    },

    end(why: WatchEnd): void {
      // Not begun: it is refused, or the look-up is under way.
      if (!response.headersSent || response.writableEnded) return;
      // Who has not read so far would keep the process from its end.
      if (response.writableNeedDrain) response.destroy();
      else if (why === 'gone') response.end();
      else response.end(`retry: ${Math.ceil(1 + Math.random() * STOPPING_RETRY_SPREAD_MS)}\n\n`);
    },

    tick(nowMs: number): void {
      if (!response.headersSent || response.writableEnded) return;
      if (nowMs >= untilMs) response.end();
      else if (nowMs - wroteAtMs >= HEARTBEAT_MS && response.writableLength === 0) write(':\n\n');
    },
  };
}

/** In a lane, as any look at an order. */
async function lookUp(
  shop: WatchShop,
  ctx: CallContext,
  knownVersion = knownVersionOf(ctx),
): Promise<FoundOrder> {
  let found: FoundOrder | undefined;
  await shop.looks.enter(ctx, async () => {
    found = await findOrder(shop, orderNoOf(ctx), { ...callerOf(ctx), knownVersion });
  });
  // The caller has gone before its turn came.
  if (!found) throw orderNotFound();
  return found;
}

function orderNoOf({ params }: CallContext): string {
  return params['orderNo'] ?? '';
}

function callerOf({ state, req }: CallContext) {
  return { userId: state.userId, requestId: requestIdOf(req) };
}

/** Until the token expires. */
function leftMs({ state }: CallContext): number {
  return Math.max(0, state.expiresAtMs - Date.now());
}

/** `Promise.withResolvers`, which Node has from 22 on. */
function withResolvers<T>() {
  let resolve: (value: T) => void = () => {};
  let reject: (error: unknown) => void = () => {};
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
