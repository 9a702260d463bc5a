/** Shoppers who buy and look over kept connections, one each, and count what was not answered. */

import { Agent, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { ulid } from 'ulidx';
import { signToken } from '../../src/api/http/auth.ts';
import { JWT_SECRET } from '../support/shopper.ts';

export interface Counts {
  requests: number;
  /** Connections that broke while an answer was due. */
  resets: number;
  /** 502, 503 and 504, which a balancer gives by itself. */
  badGateways: number;
  /** Purchases that were accepted. */
  accepted: number;
  /** Purchases that got no answer of an API. */
  unanswered: number;
}

export interface Callers {
  /** Since the last call. */
  take(): Counts;
  /** The connection that is just asking is waited for. */
  stop(): Promise<void>;
}

/** Between two calls of a caller, at most: a connection is also idle at times. */
const PAUSE_MAX_MS = 400;

const nothing = (): Counts => ({ requests: 0, resets: 0, badGateways: 0, accepted: 0, unanswered: 0 });

export async function startCallers(url: string, saleId: string, count: number): Promise<Callers> {
  let counts = nothing();
  const over = new AbortController();

  async function shop(): Promise<void> {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const authorization = `Bearer ${await signToken(JWT_SECRET, `shopper-${ulid().toLowerCase()}`, '1h')}`;
    const body = JSON.stringify({ saleId, items: [{ sku: 'lamp', quantity: 1 }] });
    for (let isPurchase = true; !over.signal.aborted; isPurchase = !isPurchase) {
      const status = await (isPurchase
        ? ask(`${url}/v1/orders`, agent, {
            method: 'POST',
            body,
            headers: { authorization, 'idempotency-key': ulid(), 'content-type': 'application/json' },
          })
        : ask(`${url}/v1/sales/${saleId}`, agent, { method: 'GET', body: '', headers: {} }));
      counts.requests += 1;
      if (status === undefined) counts.resets += 1;
      else if (status >= 502) counts.badGateways += 1;
      if (isPurchase && (status === 200 || status === 202)) counts.accepted += 1;
      if (isPurchase && (status === undefined || status >= 500)) counts.unanswered += 1;
      await delay(Math.random() * PAUSE_MAX_MS);
    }
    agent.destroy();
  }

  const shopping = Promise.all(Array.from({ length: count }, shop));
  return {
    take() {
      const taken = counts;
      counts = nothing();
      return taken;
    },
    async stop() {
      over.abort();
      await shopping;
    },
  };
}

/** @returns the status; undefined: the connection broke before the answer was whole */
function ask(
  url: string,
  agent: Agent,
  { method, body, headers }: { method: string; body: string; headers: Record<string, string> },
): Promise<number | undefined> {
  return new Promise((resolve) => {
    const lost = (): void => resolve(undefined);
    request(url, { agent, method, headers }, (response) => {
      response
        .once('end', () => resolve(response.statusCode))
        .once('error', lost)
        .resume();
    })
      .once('error', lost)
      .end(body);
  });
}
