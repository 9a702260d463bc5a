/**
 * One shopper of the storm: buys, pays, cancels, reads and watches; records in the history what every answer
 * told.
 */

import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { sessionReply } from '../src/api/calls/orders.ts';
import { orderReply } from '../src/api/http/replies.ts';
import { isFinal } from '../src/orders/order.ts';
import { createCaller, isLater, type Calls, type Reply } from './caller.ts';
import { fieldsOf, readBlocks } from './event-stream.ts';
import type { History, Way } from './history.ts';
import type { Random } from './random.ts';

const POLL_EVERY_MS = { min: 800, max: 2_500 };
/** Of the polls: these do not name the version that the shopper knows, as a page that was opened anew. */
const NAMELESS_SHARE = 0.3;
/** Of a long poll: most end with a change, and some with none. */
const POLL_WAIT_SECONDS = 8;
/** Longer than a stream is without a sign of life: then its wire is dead. */
const SILENCE_MS = 20_000;
/** Of the events: after these the shopper leaves the stream, as a page that was closed, and comes back. */
const LEAVING_SHARE = 0.3;

export type Plan = 'pay' | 'pay-twice' | 'cancel' | 'pay-and-cancel' | 'walk-away';

/** How a shopper learns of an order's changes. */
export type Following = 'poll' | 'long-poll' | 'events';

/** The answer to a purchase may wait until the order is stored. */
export interface Wait {
  seconds: number;
  /** At its end the order is given up. */
  cancels: boolean;
}

/** promised: the shopper has paid, and the provider collects the money later. */
export type Pressed = 'collected' | 'promised' | 'refused';

export interface Cart {
  sku: string;
  quantity: number;
}

/** The members that the history records: the rest of an answer is not the storm's to judge. */
const orderView = orderReply
  .pick({
    orderNo: true,
    status: true,
    version: true,
    payment: true,
    reason: true,
    total: true,
    reservedAt: true,
  })
  .strip();
type OrderView = z.infer<typeof orderView>;
/** A refusal may tell the order's state as well. */
const tellingBody = z.union([orderView, z.object({ order: orderView }).transform(({ order }) => order)]);
const sessionView = sessionReply.pick({ url: true }).strip();
/** Of the API or of the provider, with any code. */
const refusal = z.object({
  code: z.string(),
  sku: z.string().optional(),
  orderNo: z.string().optional(),
});

export interface ShopperOptions {
  apiUrls: readonly string[];
  userId: string;
  random: Random;
  history: History;
  calls: Calls;
}

/** What was asked for, so that it can be asked for again. */
interface Request {
  saleId: string;
  cart: Cart[];
  wait: Wait | undefined;
  idempotencyKey: string;
}

/** An order that was accepted. */
export interface Placed {
  orderNo: string;
  reservedAtMs: number;
  /** The call has not waited for it any longer: it is being cancelled. */
  isGivenUp: boolean;
}

export type Shopper = Awaited<ReturnType<typeof createShopper>>;

export async function createShopper({ apiUrls, userId, random, history, calls }: ShopperOptions) {
  const { call, persist, pause, authorization } = await createCaller({ userId, random, calls });
  /**
   * The newest state that was returned of each order: its version
   * is sent along, as a page does, so that no answer is older.
   */
  const known = new Map<string, OrderView>();
  const requests = new Map<string, Request>();
  /** What each order costs, by the answer that accepted it: one that was lost is told without its cart. */
  const totals = new Map<string, number>();

  const anyApi = (path: string, api = random.pick(apiUrls)): URL => new URL(path, api);

  /** Every answer about an order that names its state, a refusal too. @returns that order */
  function record(
    { startMs, endMs, body, api }: Pick<Reply, 'startMs' | 'endMs' | 'body' | 'api'>,
    isNamed = false,
    way: Way = 'call',
  ): OrderView | undefined {
    const order = tellingBody.safeParse(body).data;
    if (!order) return undefined;
    const { orderNo, version, status, payment, reason } = order;
    history.answers.push({ orderNo, startMs, endMs, version, status, payment, reason, api, isNamed, way });
    if (version >= (known.get(orderNo)?.version ?? 0)) known.set(orderNo, order);
    return order;
  }

  /** About an order of this shopper: to be told that there is none is a denial. */
  async function callOrder(method: string, orderNo: string, path = '', headers = {}, api?: string) {
    const reply = await call(method, anyApi(`/v1/orders/${orderNo}${path}`, api), { headers });
    if (reply?.status === 404) history.denials.push({ ...spanOf(reply), orderNo });
    if (reply) record(reply, 'if-none-match' in headers);
    return reply;
  }

  /** Most often with the version that the shopper knows. */
  const poll = (orderNo: string): Promise<Reply | undefined> => {
    const version = nameVersion(orderNo);
    return callOrder('GET', orderNo, '', version === undefined ? {} : { 'if-none-match': `"${version}"` });
  };

  /** The name of the newest version that the shopper knows; most often it is sent along. */
  function nameVersion(orderNo: string): number | undefined {
    return random.next() < NAMELESS_SHARE ? undefined : known.get(orderNo)?.version;
  }

  /** @returns whether there was an answer other than "later" */
  async function longPoll(orderNo: string): Promise<boolean> {
    const version = nameVersion(orderNo);
    const before = known.get(orderNo)?.version ?? -1;
    const reply = await call('GET', anyApi(`/v1/orders/${orderNo}?wait=${POLL_WAIT_SECONDS}`), {
      headers: version === undefined ? {} : { 'if-none-match': `"${version}"` },
      waitMs: POLL_WAIT_SECONDS * 1_000,
    });
    if (!reply) return false;
    if (reply.status === 404) history.denials.push({ ...spanOf(reply), orderNo });
    const told = tellingBody.safeParse(reply.body).data;
    record(reply, version !== undefined, told && told.version > before ? 'changed' : 'call');
    return !isLater(reply);
  }

  /**
   * Reads the order's events until the stream ends or breaks, is silent for too long, or the shopper leaves.
   */
  async function readEvents(orderNo: string): Promise<void> {
    const lastId = nameVersion(orderNo);
    const url = anyApi(`/v1/orders/${orderNo}/events`);
    const leaving = new AbortController();
    const silence = setTimeout(() => leaving.abort(), SILENCE_MS);
    const startMs = Date.now();
    try {
      const response = await fetch(url, {
        headers: { authorization, ...(lastId !== undefined && { 'last-event-id': String(lastId) }) },
        signal: leaving.signal,
      }).catch(() => undefined);
      if (!response) return;
      const told = { orderNo, startMs, endMs: Date.now() };
      if (response.status === 404) history.denials.push(told);
      if (response.status !== 200 || !response.body) return;
      const stream = { ...told, api: url.origin, lastId, versions: [] as number[] };
      history.streams.push(stream);
      const blocks = readBlocks(response.body);
      for (;;) {
        const block = await blocks.next().catch(() => undefined);
        if (!block || block.done) return;
        silence.refresh();
        const data = fieldsOf(block.value).get('data');
        if (data === undefined) continue;
        stream.endMs = Date.now();
        const body: unknown = JSON.parse(data);
        const order = record({ ...stream, body }, lastId !== undefined, 'event');
        stream.versions.push(orderView.parse(order).version);
        if (random.next() < LEAVING_SHARE) return;
      }
    } finally {
      clearTimeout(silence);
      leaving.abort();
    }
  }

  /** Once, or until its stream ends. */
  async function watch(orderNo: string, by: Following): Promise<void> {
    if (by === 'poll') return void (await poll(orderNo));
    if (by === 'events') return readEvents(orderNo);
    if (!(await longPoll(orderNo))) await poll(orderNo);
  }

  /** @returns the order where it is accepted, now or before; a refusal's code; undefined: no answer */
  async function place(
    request: Request,
    untilMs: number,
    api?: string,
  ): Promise<Placed | string | undefined> {
    const { saleId, cart, wait, idempotencyKey } = request;
    const reply = await persist(
      untilMs,
      () =>
        call('POST', anyApi('/v1/orders', api), {
          headers: {
            'content-type': 'application/json',
            'idempotency-key': idempotencyKey,
            ...(wait && { prefer: `wait=${wait.seconds}` }),
          },
          body: JSON.stringify({ saleId, items: cart, ...(wait?.cancels && { onTimeout: 'cancel' }) }),
          ...(wait && { waitMs: wait.seconds * 1_000 }),
        }),
      (answer) => codeOf(answer) !== GIVEN_UP && isLaterOr('sale_paused')(answer),
    );
    if (!reply) return undefined;
    const accept = (orderNo: string, reservedAtMs: number): Placed => {
      history.acceptances.push({ ...spanOf(reply), idempotencyKey, orderNo, reservedAtMs, items: cart });
      requests.set(orderNo, request);
      return { orderNo, reservedAtMs, isGivenUp: reply.status === 504 };
    };
    const order = record(reply);
    if (order && (reply.status < 300 || codeOf(reply) === 'order_failed')) {
      const { orderNo, total, version, reservedAt } = order;
      if (!totals.has(orderNo)) totals.set(orderNo, total);
      if (reply.status === 201) history.stored.push({ ...spanOf(reply), orderNo, version });
      const placed = accept(orderNo, Date.parse(reservedAt));
      return reply.status < 300 ? placed : 'order_failed';
    }
    const { code, sku, orderNo } = refusal.parse(reply.body);
    if (code === GIVEN_UP && orderNo !== undefined) {
      history.timedOut.push({ ...spanOf(reply), orderNo });
      return accept(orderNo, reply.startMs);
    }
    const quantity = cart.find((item) => item.sku === sku)?.quantity;
    if (code === 'sold_out' && sku !== undefined && quantity !== undefined) {
      history.soldOut.push({ ...spanOf(reply), sku, quantity });
    }
    return code;
  }

  return {
    userId,

    /**
     * Places one order, always with the same key.
     * @returns the order when it was accepted, the code of the
     * refusal, or undefined when there was no answer in time
     */
    buy(saleId: string, cart: Cart[], untilMs: number, { api, wait }: { api?: string; wait?: Wait } = {}) {
      return place({ saleId, cart, wait, idempotencyKey: randomUUID() }, untilMs, api);
    },

    /** Sends the request of an accepted order once more, as a page that was loaded anew. */
    async repeat(orderNo: string, untilMs: number): Promise<void> {
      const request = requests.get(orderNo);
      if (request) await place(request, untilMs);
    },

    /** Minor units; of an order that was accepted. */
    totalOf: (orderNo: string): number => totals.get(orderNo) ?? 0,

    /** Opens a payment session and presses "pay" at the provider. */
    async pay(orderNo: string, untilMs: number, api?: string): Promise<Pressed> {
      const session = await persist(
        untilMs,
        () => callOrder('POST', orderNo, '/payment', {}, api),
        isLaterOr('not_yet_payable'),
      );
      if (session?.status !== 201) return 'refused';
      history.payable.push({ ...spanOf(session), orderNo });
      const { url } = sessionView.parse(session.body);
      const sessionId = url.split('/').at(-1) ?? '';
      const pressed = await persist(untilMs, () =>
        call('POST', new URL(`/v1/payment_sessions/${sessionId}/pay`, url)),
      );
      if (pressed?.status === 202) return 'promised';
      // Collected after an earlier press that was not answered.
      const isCollected = pressed !== undefined && codeOf(pressed) === 'already_paid';
      return pressed?.status === 200 || isCollected ? 'collected' : 'refused';
    },

    async cancel(orderNo: string, untilMs: number, api?: string): Promise<void> {
      await persist(untilMs, () => callOrder('POST', orderNo, '/cancel', {}, api));
    },

    /** Reads the order once more. */
    async look(orderNo: string, untilMs: number): Promise<void> {
      await persist(untilMs, () => poll(orderNo));
    },

    /**
     * Follows the order as the shop's page does, at whichever API it meets.
     * @param by unless it polls
     * @returns the status once it is final; undefined when the time is up before
     */
    async follow(
      orderNo: string,
      untilMs: number,
      {
        everyMs = POLL_EVERY_MS,
        by = 'poll',
      }: { everyMs?: { min: number; max: number }; by?: Following } = {},
    ): Promise<OrderEnd | undefined> {
      while (Date.now() < untilMs) {
        await watch(orderNo, by);
        // Another of this shopper's calls may have met the end
        // already; then the answer here is "not modified".
        const order = known.get(orderNo);
        if (order !== undefined && isFinal(order.status)) return order;
        await pause(everyMs);
      }
      return undefined;
    },
  };
}

export type OrderEnd = Pick<OrderView, 'status' | 'reason'>;

/** The code of the 504 that says so. */
const GIVEN_UP = 'wait_timed_out';

const codeOf = ({ body }: Reply): string | undefined => refusal.safeParse(body).data?.code;

/** Whether the answer asks to be called again, as a refusal of this code does. */
const isLaterOr = (code: string) => (reply: Reply) => isLater(reply) || codeOf(reply) === code;

const spanOf = ({ startMs, endMs }: Reply) => ({ startMs, endMs });
