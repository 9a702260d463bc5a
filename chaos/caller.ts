/** The calls of a shopper, or of staff: each has a bound, and is repeated until it is answered. */

import { setTimeout as delay } from 'node:timers/promises';
import { signToken } from '../src/api/http/auth.ts';
import { demoSecrets } from '../stack/app.ts';
import type { Span } from './history.ts';
import type { Random } from './random.ts';

/**
 * A shopper's patience with one call, beside the time that it asks to wait; the longest fault of a wire is
 * shorter than all of it.
 */
const CALL_TIMEOUT_MS = 8_000;
const PAUSE_MS = { min: 200, max: 900 };

/** How calls fared that were repeated until they were answered. */
export interface Calls {
  made: number;
  repeated: number;
  unanswered: number;
  /** With all its repeats. */
  longestMs: number;
  /** Is told of each call, the repeats too. */
  heard?: (call: Heard) => void;
}

export interface Heard extends Span {
  /** As in `POST /v1/orders`. */
  request: string;
  /** Undefined: there was no answer. */
  status: number | undefined;
}

export interface Reply extends Span {
  /** That answered. */
  api: string;
  status: number;
  body: unknown;
}

interface Sent {
  headers?: { [name: string]: string };
  body?: string;
  /** For how long the call asks the API to wait. */
  waitMs?: number;
}

export async function createCaller({
  userId,
  roles = [],
  random,
  calls,
}: {
  userId: string;
  /** Of staff; a shopper has none. */
  roles?: 'admin'[];
  random: Random;
  calls: Calls;
}) {
  const token = await signToken(demoSecrets.jwt, userId, '12h', { roles });
  const pause = ({ min, max }: { min: number; max: number }): Promise<void> => delay(random.int(min, max));

  return {
    authorization: `Bearer ${token}`,
    pause,

    /** Undefined when there was no answer, or none that could be read to its end. */
    async call(
      method: string,
      url: URL,
      { headers = {}, body, waitMs = 0 }: Sent = {},
    ): Promise<Reply | undefined> {
      const startMs = Date.now();
      const hear = (status?: number) =>
        calls.heard?.({ request: `${method} ${url.pathname}`, status, startMs, endMs: Date.now() });
      try {
        const response = await fetch(url, {
          method,
          headers: { authorization: `Bearer ${token}`, ...headers },
          ...(body === undefined ? {} : { body }),
          signal: AbortSignal.timeout(waitMs + CALL_TIMEOUT_MS),
        });
        const text = await response.text();
        const isJson = response.headers.get('content-type')?.includes('json') ?? false;
        const answer: unknown = isJson ? JSON.parse(text) : text;
        hear(response.status);
        return { api: url.origin, startMs, endMs: Date.now(), status: response.status, body: answer };
      } catch {
        hear();
        return undefined;
      }
    },

    /** Repeats until there is an answer other than "later", or the time is up. */
    async persist(
      untilMs: number,
      ask: () => Promise<Reply | undefined>,
      isToRepeat: (reply: Reply) => boolean = isLater,
    ): Promise<Reply | undefined> {
      const startedMs = Date.now();
      calls.made += 1;
      for (let tries = 1; Date.now() < untilMs; tries += 1) {
        const reply = await ask();
        if (tries === 2) calls.repeated += 1;
        if (reply && !isToRepeat(reply)) {
          calls.longestMs = Math.max(calls.longestMs, Date.now() - startedMs);
          return reply;
        }
        await pause(PAUSE_MS);
      }
      calls.unanswered += 1;
      return undefined;
    },
  };
}

/** The answer asks to be called again. */
export const isLater = ({ status }: Reply): boolean => status >= 500 || status === 429;
