/** Many shoppers that buy, pay and cancel over keep-alive connections; each call is timed. */

import { randomUUID } from 'node:crypto';
import { Agent, request, type OutgoingHttpHeaders } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { sessionReply } from '../src/api/calls/orders.ts';
import { signToken } from '../src/api/http/auth.ts';
import { demoSecrets } from '../stack/app.ts';

/** Bounds a hang. */
const CALL_TIMEOUT_MS = 30_000;
/** A full engine stores an order within seconds; this bounds a hang. */
const PAYABLE_TIMEOUT_MS = 120_000;
const ASK_AGAIN_AFTER_MS = 200;

export interface Reply {
  status: number;
  body: string;
  latencyMs: number;
}

/** @param count users, each with a token of their own, signed beforehand */
export async function createShoppers(apiUrl: string, count: number, concurrency: number) {
  const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
  const tokens = await signTokens(count);

  function call(user: number, method: string, url: URL, payload?: unknown): Promise<Reply> {
    const body = payload === undefined ? '' : JSON.stringify(payload);
    const headers = {
      authorization: `Bearer ${tokens[user % count]}`,
      'idempotency-key': randomUUID(),
      accept: 'application/json',
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    };
    return send(url, method, headers, body);
  }

  function send(url: URL, method: string, headers: OutgoingHttpHeaders, body: string): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const startedMs = performance.now();
      const sent = request(url, { agent, method, headers, timeout: CALL_TIMEOUT_MS }, (response) => {
        const chunks: Buffer[] = [];
        response
          .on('data', (chunk: Buffer) => chunks.push(chunk))
          .on('error', reject)
          .on('end', () => {
            const latencyMs = performance.now() - startedMs;
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString(), latencyMs });
          });
      });
      sent
        .on('error', (error: NodeJS.ErrnoException) => {
          // The server closed an idle connection while we used it again: it has read nothing of the request.
          if (sent.reusedSocket && error.code === 'ECONNRESET') resolve(send(url, method, headers, body));
          else reject(error);
        })
        .on('timeout', () => sent.destroy(new Error(`no answer from ${url.href}`)))
        .end(body);
    });
  }

  /** An order can be paid as soon as it is stored. */
  async function openSession(user: number, orderNo: string): Promise<Reply> {
    const untilMs = performance.now() + PAYABLE_TIMEOUT_MS;
    for (;;) {
      const reply = await call(user, 'POST', new URL(`/v1/orders/${orderNo}/payment`, apiUrl));
      if (!reply.body.includes('"not_yet_payable"') || performance.now() > untilMs) return reply;
      await delay(ASK_AGAIN_AFTER_MS);
    }
  }

  /** @param session the reply that opened it */
  function pressPay(user: number, session: Reply): Promise<Reply> {
    const { url } = sessionReply.parse(JSON.parse(session.body));
    const sessionId = url.split('/').at(-1) ?? '';
    return call(user, 'POST', new URL(`/v1/payment_sessions/${sessionId}/pay`, url));
  }

  return {
    placeOrder: (user: number, saleId: string) =>
      call(user, 'POST', new URL('/v1/orders', apiUrl), { saleId, items: [{ sku: 'unit', quantity: 1 }] }),

    /** Opens a payment session and presses "pay" at the provider. */
    async pay(user: number, orderNo: string): Promise<void> {
      const session = await openSession(user, orderNo);
      if (session.status !== 201) throw new Error(`no session for ${orderNo}: ${session.body}`);
      const paid = await pressPay(user, session);
      // 202: the provider takes the money later.
      if (paid.status !== 200 && paid.status !== 202)
        throw new Error(`${orderNo} was not paid: ${paid.body}`);
    },

    openSession,
    pressPay,

    async cancel(user: number, orderNo: string): Promise<void> {
      const reply = await call(user, 'POST', new URL(`/v1/orders/${orderNo}/cancel`, apiUrl));
      if (reply.status !== 200 && reply.status !== 202) throw new Error(`${orderNo}: ${reply.body}`);
    },

    close: () => agent.destroy(),
  };
}

export function signTokens(count: number): Promise<string[]> {
  return Promise.all(Array.from({ length: count }, (_, i) => signToken(demoSecrets.jwt, `bench-${i}`, '1h')));
}

/** Runs `work` for 0 … count-1, so many at a time. @returns the results in that order */
export async function runConcurrently<T>(
  count: number,
  concurrency: number,
  work: (index: number) => Promise<T>,
): Promise<T[]> {
  const results: T[] = [];
  let next = 0;
  async function runner(): Promise<void> {
    while (next < count) {
      const index = next;
      next += 1;
      results[index] = await work(index);
    }
  }
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, runner));
  return results;
}

/** The value below which this share of the values lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}
