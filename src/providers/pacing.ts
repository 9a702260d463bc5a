/**
 * Paces the calls to the provider: a bound a second for all processes together, and a pause for all of them
 * when the provider asks for one.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { ProviderBusyError } from './provider.ts';

/**
 * shopper: someone waits for a payment page. background: refunds, voids and looks into the book, which may
 * never take all that the provider allows.
 */
export type Urgency = 'shopper' | 'background';

export interface Pace {
  /** Takes room for one call. @returns 0, or the ms after which to ask again */
  take: (urgency: Urgency) => Promise<number>;
  /** No process calls the provider for so many ms. */
  pause: (ms: number) => Promise<void>;
}

/**
 * Makes one call to the provider as soon as it may be made.
 * @throws ProviderBusyError when it may not be made soon
 */
export type Paced = <T>(call: () => Promise<T>) => Promise<T>;

export const unpaced: Paced = (call) => call();

/**
 * How long a call waits for its turn. A shopper had better get an answer than wait longer. A step of a
 * workflow makes two calls of at most five seconds, and has twenty.
 */
const WAIT_MAX_MS: Readonly<Record<Urgency, number>> = { shopper: 1_000, background: 4_000 };
/** Waiting calls come back spread over so many ms, not as a herd. */
const SPREAD_MS = 100;

const DEFAULT_PAUSE_MS = 1_000;
/** A provider that asks for more has made a mistake, or an operator should know by then. */
const MAX_PAUSE_MS = 5 * 60_000;

/** A call that the provider puts off did nothing, and is made again where its pause is short. */
export function createPaced(pace: Pace, urgency: Urgency): Paced {
  return async (call) => {
    const untilMs = performance.now() + WAIT_MAX_MS[urgency];
    for (;;) {
      await waitForTurn(pace, urgency, untilMs);
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof ProviderBusyError)) throw error;
        await pace.pause(error.retryAfterMs);
        if (performance.now() + error.retryAfterMs > untilMs) throw error;
      }
    }
  };
}

async function waitForTurn(pace: Pace, urgency: Urgency, untilMs: number): Promise<void> {
  for (;;) {
    const waitMs = await pace.take(urgency);
    if (waitMs === 0) return;
    if (performance.now() + waitMs > untilMs)
      throw new ProviderBusyError('as many calls are made to the provider as may be', waitMs);
    await delay(waitMs + Math.random() * SPREAD_MS);
  }
}

/** @param header `Retry-After` of a 429, in seconds; without one that can be read: a second */
export function busyAfter(provider: string, header: string | null | undefined): ProviderBusyError {
  const seconds = /^\d{1,9}$/.test(header ?? '') ? Number(header) : 0;
  const pauseMs = Math.min(Math.max(seconds * 1_000, DEFAULT_PAUSE_MS), MAX_PAUSE_MS);
  return new ProviderBusyError(`${provider} asks for a pause`, pauseMs);
}
