/**
 * One shopper of the storm: repeats what was not answered,
 * as a page does, and records every answer in the history.
 */

import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { signToken } from '../src/api/http/auth.ts';
import { orderReply, sessionReply } from '../src/api/http/replies.ts';
import { isFinal, type OrderStatus } from '../src/domain/order.ts';
import { demoSecrets } from '../stack/app.ts';
import type { Acceptance, History, Span } from './history.ts';
import type { Random } from './random.ts';

/** A shopper's patience with one call; the longest fault of a wire is shorter than all of it. */
const CALL_TIMEOUT_MS = 8_000;
const PAUSE_MS = { min: 200, max: 900 };
const POLL_EVERY_MS = { min: 800, max: 2_500 };

export type Plan = 'pay' | 'pay-twice' | 'cancel' | 'pay-and-cancel' | 'walk-away';

/** promised: the shopper has paid, and the provider collects the money later. */
export type Pressed = 'collected' | 'promised' | 'refused';

export interface Cart {
  sku: string;
  quantity: number;
}

/** The members that the history records: the rest of an answer is not the storm's to judge. */
const orderView = orderReply
  .pick({ orderNo: true, status: true, version: true, payment: true, total: true })
  .strip();
const sessionView = sessionReply.pick({ url: true }).strip();
/** Of the API or of the provider, with any code. */
const refusal = z.object({ code: z.string(), sku: z.string().optional() });

/** How calls fared that were repeated until they were answered. */
export interface Calls {
  made: number;
  repeated: number;
  unanswered: number;
  /** With all its repeats. */
  longestMs: number;
}

interface Reply extends Span {
  status: number;
  body: unknown;
}

export interface ShopperOptions {
  apiUrls: readonly string[];
  userId: string;
  random: Random;
  history: History;
  calls: Calls;
}

export type Shopper = Awaited<ReturnType<typeof createShopper>>;

export async function createShopper({ apiUrls, userId, random, history, calls }: ShopperOptions) {
  /**
   * The newest version that was returned of each order:
   * sent along, as a page does, so that no answer is older.
   */
  const known = new Map<string, { version: number; status: OrderStatus }>();
  /** What each order costs, in minor units. */
  const totals = new Map<string, number>();
  const token = await signToken(demoSecrets.jwt, userId, '12h');

  /** Undefined when there was no answer, or none that could be read to its end. */
  async function call(
    method: string,
    url: URL,
    { headers = {}, body }: { headers?: { [name: string]: string }; body?: string } = {},
  ): Promise<Reply | undefined> {
    const startMs = Date.now();
    try {
      const response = await fetch(url, {
        method,
        headers: { authorization: `Bearer ${token}`, ...headers },
        ...(body === undefined ? {} : { body }),
        signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
      });
      const text = await response.text();
      const isJson = response.headers.get('content-type')?.includes('json') ?? false;
      const answer: unknown = isJson ? JSON.parse(text) : text;
      return { startMs, endMs: Date.now(), status: response.status, body: answer };
    } catch {
      return undefined;
    }
  }

  const pause = ({ min, max }: { min: number; max: number }): Promise<void> => delay(random.int(min, max));
  const anyApi = (path: string, api = random.pick(apiUrls)): URL => new URL(path, api);

  function record(reply: Reply): z.infer<typeof orderView> {
    const { startMs, endMs } = reply;
    const order = orderView.parse(reply.body);
    const { orderNo, version, status, payment } = order;
    history.answers.push({ orderNo, startMs, endMs, version, status, payment });
    if (version >= (known.get(orderNo)?.version ?? 0)) known.set(orderNo, { version, status });
    return order;
  }

  /** With the version that the shopper knows, so that no answer is older, whichever API gives it. */
  const poll = (orderNo: string): Promise<Reply | undefined> =>
    call('GET', anyApi(`/v1/orders/${orderNo}`), {
      headers: { 'if-none-match': `"${known.get(orderNo)?.version ?? -1}"` },
    });

  /** Repeats until there is an answer other than "later", or the time is up. */
  async function persist(
    untilMs: number,
    ask: () => Promise<Reply | undefined>,
    isLater: (reply: Reply) => boolean = ({ status }) => status >= 500 || status === 429,
  ): Promise<Reply | undefined> {
    const startedMs = Date.now();
    calls.made += 1;
    for (let tries = 1; Date.now() < untilMs; tries += 1) {
      const reply = await ask();
      if (tries === 2) calls.repeated += 1;
      if (reply && !isLater(reply)) {
        calls.longestMs = Math.max(calls.longestMs, Date.now() - startedMs);
        return reply;
      }
      await pause(PAUSE_MS);
    }
    calls.unanswered += 1;
    return undefined;
  }

  return {
    userId,

    /**
     * Places one order, always with the same key.
     * @returns the orderNo when it was accepted, the code of the
     * refusal, or undefined when there was no answer in time
     */
    async buy(
      saleId: string,
      cart: Cart[],
      untilMs: number,
      api?: string,
    ): Promise<Acceptance | string | undefined> {
      const idempotencyKey = randomUUID();
      const reply = await persist(untilMs, () =>
        call('POST', anyApi('/v1/orders', api), {
          headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
          body: JSON.stringify({ saleId, items: cart }),
        }),
      );
      if (!reply) return undefined;
      const { startMs, endMs } = reply;
      if (reply.status === 202 || reply.status === 200) {
        const { orderNo, total } = record(reply);
        totals.set(orderNo, total);
        const acceptance = { startMs, endMs, idempotencyKey, orderNo };
        history.acceptances.push(acceptance);
        return acceptance;
      }
      const { code, sku } = refusal.parse(reply.body);
      const quantity = cart.find((item) => item.sku === sku)?.quantity;
      if (code === 'sold_out' && sku !== undefined && quantity !== undefined) {
        history.soldOut.push({ startMs, endMs, sku, quantity });
      }
      return code;
    },

    /** Minor units; of an order that was accepted. */
    totalOf: (orderNo: string): number => totals.get(orderNo) ?? 0,

    /** Opens a payment session and presses "pay" at the provider. */
    async pay(orderNo: string, untilMs: number, api?: string): Promise<Pressed> {
      const session = await persist(
        untilMs,
        () => call('POST', anyApi(`/v1/orders/${orderNo}/payment`, api)),
        (reply) => reply.status >= 500 || refusal.safeParse(reply.body).data?.code === 'not_yet_payable',
      );
      if (session?.status !== 201) return 'refused';
      const { url } = sessionView.parse(session.body);
      const sessionId = url.split('/').at(-1) ?? '';
      const pressed = await persist(untilMs, () =>
        call('POST', new URL(`/v1/payment_sessions/${sessionId}/pay`, url)),
      );
      if (pressed?.status === 202) return 'promised';
      // Collected after an earlier press that was not answered.
      const isCollected = refusal.safeParse(pressed?.body).data?.code === 'already_paid';
      return pressed?.status === 200 || isCollected ? 'collected' : 'refused';
    },

    async cancel(orderNo: string, untilMs: number, api?: string): Promise<void> {
      const reply = await persist(untilMs, () => call('POST', anyApi(`/v1/orders/${orderNo}/cancel`, api)));
      if (reply?.status === 200 || reply?.status === 202) record(reply);
    },

    /** Reads the order once more. */
    async look(orderNo: string, untilMs: number): Promise<void> {
      const reply = await persist(untilMs, () => poll(orderNo));
      if (reply?.status === 200) record(reply);
    },

    /**
     * Polls like the shop's page: each time with the version it knows, at whichever API it meets.
     * @returns the status once it is final; undefined when the time is up before
     */
    async follow(
      orderNo: string,
      untilMs: number,
      { everyMs }: { everyMs: { min: number; max: number } } = { everyMs: POLL_EVERY_MS },
    ): Promise<OrderStatus | undefined> {
      while (Date.now() < untilMs) {
        const reply = await poll(orderNo);
        if (reply?.status === 404) {
          const { startMs, endMs } = reply;
          history.denials.push({ startMs, endMs, orderNo });
        }
        if (reply?.status === 200) record(reply);
        // Another of this shopper's calls may have met the end
        // already; then the answer here is "not modified".
        const status = known.get(orderNo)?.status;
        if (status !== undefined && isFinal(status)) return status;
        await pause(everyMs);
      }
      return undefined;
    },
  };
}
