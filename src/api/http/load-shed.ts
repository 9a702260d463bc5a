/**
 * Load shedding: a bounded number of calls is worked on, and the next is refused at once instead of made to
 * wait. Kinds of calls have lanes of their own, so that a rush of purchases keeps no shopper from paying.
 */

import type { OutgoingHttpHeaders, RequestListener } from 'node:http';
import { Problem, problemDocument, PROBLEM_TYPE, UNCACHED } from './problem.ts';

/** Refused callers come back spread over so many seconds, not as a herd. */
const RETRY_SPREAD_SECONDS = 4;

/**
 * As long as a command to Redis may take. While Redis answers, a place comes free long before; when it hangs,
 * no caller waits for ever.
 */
const WAIT_MAX_MS = 2_000;

export interface LaneOptions {
  /** Worked on at once. */
  placesMax: number;
  /** Waiting for a place, first come, first served. */
  waitingMax: number;
  /** Called for each refusal, of which there may be thousands a second. */
  onShed: () => void;
}

export interface Lane {
  isFull: () => boolean;
  /** Counts a refusal. @returns the seconds after which to come back */
  shed: () => number;
  /** Occupies a place until all work is done, also for a caller that has gone meanwhile. */
  enter: (ctx: { res: { closed: boolean } }, next: () => Promise<unknown>) => Promise<void>;
}

export function createLane({ placesMax, waitingMax, onShed }: LaneOptions): Lane {
  let taken = 0;
  /** In the order of arrival. */
  const waiting: Waiting[] = [];
  /** Runs while calls wait, and at most so long beyond; their connections keep the process. */
  let watch: NodeJS.Timeout | undefined;

  function isFull(): boolean {
    return taken >= placesMax && waiting.length >= waitingMax;
  }

  function shed(): number {
    onShed();
    return 1 + Math.floor(Math.random() * RETRY_SPREAD_SECONDS);
  }

  function wait(): Promise<void> {
    return new Promise((start, reject) => {
      waiting.push({
        start,
        refuse: () => reject(overloaded(shed())),
        untilMs: performance.now() + WAIT_MAX_MS,
      });
      watch ??= setTimeout(refuseLate, WAIT_MAX_MS).unref();
    });
  }

  /** One timer for all: they wait equally long, so the first to come is the first to be late. */
  function refuseLate(): void {
    const nowMs = performance.now();
    let [first] = waiting;
    while (first && first.untilMs <= nowMs) {
      waiting.shift();
      first.refuse();
      [first] = waiting;
    }
    watch = first && setTimeout(refuseLate, first.untilMs - nowMs).unref();
  }

  function leave(): void {
    const first = waiting.shift();
    if (first) first.start();
    else taken -= 1;
  }

  return {
    isFull,
    shed,
    async enter(ctx, next) {
      if (isFull()) throw overloaded(shed());
      if (taken < placesMax) taken += 1;
      else await wait();
      try {
        // The caller has gone and could not learn of its order, and nothing has been done for it yet.
        if (!ctx.res.closed) await next();
      } finally {
        leave();
      }
    },
  };
}

interface Waiting {
  /** Gets the place of one that is done. */
  start: () => void;
  refuse: () => void;
  untilMs: number;
}

/** While the lane is full a purchase is refused before any work: no routing, no token, no body. */
export function shedPurchases(lane: Lane, handle: RequestListener): RequestListener {
  const refusals = Array.from({ length: RETRY_SPREAD_SECONDS }, (_, i) => prepareRefusal(i + 1));
  return (request, response) => {
    if (!isPurchase(request.method, request.url) || !lane.isFull()) {
      handle(request, response);
      return;
    }
    const { headers, body } = refusals[lane.shed() - 1] ?? prepareRefusal(1);
    response.writeHead(503, headers).end(body);
  };
}

function isPurchase(method: string | undefined, url: string | undefined): boolean {
  return method === 'POST' && (url === '/v1/orders' || url?.startsWith('/v1/orders?') === true);
}

function prepareRefusal(seconds: number): { headers: OutgoingHttpHeaders; body: Buffer } {
  const body = Buffer.from(problemDocument(overloaded(seconds)));
  const headers = {
    ...UNCACHED,
    'Content-Type': PROBLEM_TYPE,
    'Content-Length': body.length,
    'Retry-After': seconds,
  };
  return { headers, body };
}

export function overloaded(seconds: number): Problem {
  return new Problem('overloaded', 'More is asked than can be answered in time; nothing was done.', {
    retryAfterSeconds: seconds,
  });
}
