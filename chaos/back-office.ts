/**
 * The shop's back office in a trial: it follows the feed of
 * events as a consumer, may be away for a while, and remembers
 * all that it was told, in the order in which it was told.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { eventsReply, type EventsReply } from '../src/api/calls/events.ts';
import { signToken } from '../src/api/http/auth.ts';
import { demoSecrets } from '../stack/app.ts';
import type { Notice, Told } from './feed-checks.ts';

/** Longer than the call waits for an event. */
const CALL_TIMEOUT_MS = 15_000;
const WAIT_SECONDS = 5;
const PAGE = 500;
/** Between calls that failed: an API that was killed is back within seconds. */
const PAUSE_MS = 300;
/** Longer than any fault lasts; then the feed cannot be read. */
const PATIENCE_MS = 120_000;

export interface BackOffice {
  /** Follows the feed until `signal` aborts; what it has not committed by then it is told again. */
  work(signal: AbortSignal): Promise<void>;
  /** Reads on from what it has committed until nothing follows. @throws when the feed cannot be read */
  readToEnd(): Promise<void>;
  /** All changes of orders that it was told, repeats too. */
  told: readonly Told[];
  /** And the deadlines that are near. */
  notices: readonly Notice[];
}

/** @param apiUrls each call goes to the next of them */
export async function createBackOffice(apiUrls: readonly string[], consumer: string): Promise<BackOffice> {
  const token = await signToken(demoSecrets.jwt, 'back-office', '12h', { roles: ['admin'] });
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
  const told: Told[] = [];
  const notices: Notice[] = [];
  let calls = 0;

  /** Undefined when there was no answer, or a refusal. */
  async function call(path: string, init: RequestInit = {}): Promise<unknown> {
    calls += 1;
    const url = `${apiUrls[calls % apiUrls.length]}/v1/admin/events${path}`;
    try {
      const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
      const response = await fetch(url, { ...init, headers, signal });
      return response.ok ? await response.json() : undefined;
    } catch {
      return undefined;
    }
  }

  /** One round: reads a page, handles it, commits. Undefined when the feed did not answer. */
  async function round(waitSeconds: number): Promise<EventsReply | undefined> {
    const answer = await call(`?consumer=${consumer}&limit=${PAGE}&wait=${waitSeconds}`);
    if (answer === undefined) return undefined;
    const page = eventsReply.parse(answer);
    for (const event of page.events) {
      if (!('orderNo' in event)) continue;
      const { id, type, orderNo, version, data } = event;
      if (type !== 'order.expiring') told.push(toTold(data.order));
      else notices.push({ id, orderNo, version, deadline: data.order.deadline });
    }
    // A commit that is not answered is repeated by the next round, which is told the same again.
    await call(`/consumers/${consumer}`, {
      method: 'PUT',
      body: JSON.stringify({ position: page.next }),
    });
    return page;
  }

  return {
    told,
    notices,

    async work(signal) {
      while (!signal.aborted) if (!(await round(WAIT_SECONDS))) await delay(PAUSE_MS);
    },

    async readToEnd() {
      let position = -1;
      for (let untilMs = Date.now() + PATIENCE_MS; Date.now() < untilMs;) {
        const page = await round(0);
        if (page?.events.length === 0 && page.next === position) return;
        if (page) untilMs = Date.now() + PATIENCE_MS;
        else await delay(PAUSE_MS);
        position = page?.next ?? position;
      }
      throw new Error(`the feed could not be read for ${PATIENCE_MS / 1_000} s`);
    },
  };
}

function toTold({ orderNo, version, status, payment }: Told): Told {
  return { orderNo, version, status, payment };
}
