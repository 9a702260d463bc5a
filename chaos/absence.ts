/**
 * The shop's back office is away from the beginning of a trial to its end. When it comes back it must learn
 * each change that MySQL recorded: from the feed, and by the pushes that it missed.
 */

import { z } from 'zod';
import { signToken } from '../src/api/http/auth.ts';
import { demoSecrets } from '../stack/app.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import { createBackOffice } from './back-office.ts';
import { checkNotices, checkTold } from './feed-checks.ts';
import type { Recorded, Violation } from './history.ts';
import { openPushReceiver } from './push-receiver.ts';
import type { System } from './system.ts';

/** An endpoint that is down is probed each minute at least, and then everything waits to be sent. */
const PUSHES_TIMEOUT_MS = 5 * 60_000;
const CALL_TIMEOUT_MS = 10_000;

export interface ReturnReport {
  awayMs: number;
  /** From its return until it knew everything, or did not wait any longer. */
  caughtUpMs: number;
  /** Changes of orders. */
  pulled: number;
  pushed: number;
  /** Deadlines that it was told are near, by the feed and by pushes. */
  notices: { pulled: number; pushed: number };
  violations: Violation[];
}

/** While no fault strikes, as its return: its endpoint is registered by a single call. */
export async function sendAway({ apiUrls }: System, saleId: string) {
  const wentAtMs = Date.now();
  const receiver = await openPushReceiver();
  receiver.trust(await registerEndpoint(apiUrls[0] ?? '', saleId, receiver.url));
  await receiver.goAway();
  const backOffice = await createBackOffice(apiUrls, `back-office-${saleId}`);

  return {
    async comeBack(recorded: Recorded): Promise<ReturnReport> {
      const cameAtMs = Date.now();
      await receiver.comeBack();
      await backOffice.readToEnd();
      const isOfSale = ({ orderNo }: { orderNo: string }): boolean => recorded.states.has(orderNo);
      const pulled = backOffice.told.filter(isOfSale);
      const notices = backOffice.notices.filter(isOfSale);
      const noticed = new Set(notices.map(({ id }) => id)).size;
      const changes = [...recorded.states.values()].reduce((sum, states) => sum + states.size, 0);
      await waitUntil({
        what: 'all pushes',
        timeoutMs: PUSHES_TIMEOUT_MS,
        check: () => {
          const { receptions: told, notices: announced } = receiver.log;
          return told.length >= changes && announced.length >= noticed;
        },
        // What is missing then is judged below.
      }).catch(() => undefined);
      const { receptions, notices: pushedNotices, forged } = receiver.log;
      await receiver.close();
      return {
        awayMs: cameAtMs - wentAtMs,
        caughtUpMs: Date.now() - cameAtMs,
        pulled: pulled.length,
        pushed: receptions.length,
        notices: { pulled: noticed, pushed: pushedNotices.length },
        violations: [
          ...named('pulled', [...checkTold(pulled, recorded), ...checkNotices(notices, recorded)]),
          ...named('pushed', [...checkTold(receptions, recorded), ...checkNotices(pushedNotices, recorded)]),
          ...(forged === 0 ? [] : [{ check: 'pushed', subject: receiver.url, detail: `${forged} forged` }]),
        ],
      };
    },
  };
}

/** @returns the secret that signs what is pushed */
async function registerEndpoint(apiUrl: string, saleId: string, url: string): Promise<string> {
  const token = await signToken(demoSecrets.jwt, 'back-office', '1h', { roles: ['admin'] });
  const response = await fetch(`${apiUrl}/v1/admin/endpoints/back-office-${saleId}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ url, saleId }),
    signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
  });
  return z.object({ secret: z.string() }).parse(await response.json()).secret;
}

const named = (how: string, violations: readonly Violation[]): Violation[] =>
  violations.map(({ check, ...rest }) => ({ check: `${how}: ${check}`, ...rest }));
