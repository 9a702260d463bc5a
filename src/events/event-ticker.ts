/**
 * Wakes the callers that wait for a further event. One look at MySQL serves all that wait in this process.
 * There is none while none waits.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { Stores } from '../stores/open.ts';

/** With the dispatcher's pause, an event reaches a waiting consumer within half a second. */
const LOOK_EVERY_MS = 200;

interface Waiting {
  after: number;
  wake: () => void;
  fail: (error: unknown) => void;
}

export type EventTicker = ReturnType<typeof createEventTicker>;

export function createEventTicker({
  eventDispatch,
}: {
  eventDispatch: Pick<Stores['eventDispatch'], 'readLastSequence'>;
}) {
  const waiting = new Set<Waiting>();
  const stopping = new AbortController();
  let isLooking = false;

  async function look(): Promise<void> {
    isLooking = true;
    while (waiting.size > 0) {
      try {
        const last = await eventDispatch.readLastSequence();
        for (const one of waiting) if (last > one.after) one.wake();
      } catch (error) {
        for (const one of waiting) one.fail(error);
      }
      if (waiting.size > 0) await delay(LOOK_EVERY_MS);
    }
    isLooking = false;
  }

  return {
    /** Whether the process ends, so that waiting ends at once. */
    isStopping: (): boolean => stopping.signal.aborted,

    /**
     * Waits until there is an event after this one, the process ends, or `signal` aborts, which the caller
     * bounds.
     * @throws when MySQL does not answer
     */
    async wait(after: number, signal: AbortSignal): Promise<void> {
      const ended = AbortSignal.any([signal, stopping.signal]);
      if (ended.aborted) return;
      await new Promise<void>((wake, fail) => {
        const one: Waiting = { after, wake: leave, fail: refuse };
        function refuse(error: unknown): void {
          fail(error);
          leave();
        }
        function leave(): void {
          waiting.delete(one);
          ended.removeEventListener('abort', leave);
          wake();
        }
        waiting.add(one);
        ended.addEventListener('abort', leave);
        if (!isLooking) void look();
      });
    },

    /** Ends all waiting, now and later. */
    stop: (): void => stopping.abort(),
  };
}
