/** One shopper of the storm: buys, pays, cancels and reads; records in the history what every answer told. */

import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { sessionReply } from '../src/api/calls/orders.ts';
import { orderReply } from '../src/api/http/replies.ts';
import { isFinal } from '../src/orders/order.ts';
import { createCaller, isLater, type Calls, type Reply } from './caller.ts';
import type { History } from './history.ts';
import type { Random } from './random.ts';

const POLL_EVERY_MS = { min: 800, max: 2_500 };
/** Of the polls: these do not name the version that the shopper knows, as a page that was opened anew. */
const NAMELESS_SHARE = 0.3;

export type Plan = 'pay' | 'pay-twice' | 'cancel' | 'pay-and-cancel' | 'walk-away';

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
const refusal = z.object({ code: z.string(), sku: z.string().optional() });

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
  idempotencyKey: string;
}

export type Shopper = Awaited<ReturnType<typeof createShopper>>;

export async function createShopper({ apiUrls, userId, random, history, calls }: ShopperOptions) {
  const { call, persist, pause } = await createCaller({ userId, random, calls });
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
  function record({ startMs, endMs, body, api }: Reply, isNamed = false): OrderView | undefined {
    const order = tellingBody.safeParse(body).data;
    if (!order) return undefined;
    const { orderNo, version, status, payment, reason } = order;
    history.answers.push({ orderNo, startMs, endMs, version, status, payment, reason, api, isNamed });
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
    const version = random.next() < NAMELESS_SHARE ? undefined : known.get(orderNo)?.version;
    return callOrder('GET', orderNo, '', version === undefined ? {} : { 'if-none-match': `"${version}"` });
  };

  /** @returns the order where it is accepted, now or before; a refusal's code; undefined: no answer */
  async function place(
    request: Request,
    untilMs: number,
    api?: string,
  ): Promise<OrderView | string | undefined> {
    const { saleId, cart, idempotencyKey } = request;
    const reply = await persist(
      untilMs,
      () =>
        call('POST', anyApi('/v1/orders', api), {
          headers: { 'content-type': 'application/json', 'idempotency-key': idempotencyKey },
          body: JSON.stringify({ saleId, items: cart }),
        }),
      isLaterOr('sale_paused'),
    );
    if (!reply) return undefined;
    if (reply.status === 202 || reply.status === 200) {
      const order = orderView.parse(record(reply));
      const { orderNo } = order;
      if (!totals.has(orderNo)) totals.set(orderNo, order.total);
      const reservedAtMs = Date.parse(order.reservedAt);
      history.acceptances.push({ ...spanOf(reply), idempotencyKey, orderNo, reservedAtMs, items: cart });
      requests.set(orderNo, request);
      return order;
    }
    const { code, sku } = refusal.parse(reply.body);
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
     * @returns the orderNo when it was accepted, the code of the
     * refusal, or undefined when there was no answer in time
     */
    async buy(saleId: string, cart: Cart[], untilMs: number, api?: string) {
      const answer = await place({ saleId, cart, idempotencyKey: randomUUID() }, untilMs, api);
      return typeof answer === 'object' ? { orderNo: answer.orderNo } : answer;
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
      const isCollected = refusal.safeParse(pressed?.body).data?.code === 'already_paid';
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
     * Polls like the shop's page, at whichever API it meets.
     * @returns the status once it is final; undefined when the time is up before
     */
    async follow(
      orderNo: string,
      untilMs: number,
      { everyMs }: { everyMs: { min: number; max: number } } = { everyMs: POLL_EVERY_MS },
    ): Promise<OrderEnd | undefined> {
      while (Date.now() < untilMs) {
        await poll(orderNo);
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

/** Whether the answer asks to be called again, as a refusal of this code does. */
const isLaterOr = (code: string) => (reply: Reply) =>
  isLater(reply) || refusal.safeParse(reply.body).data?.code === code;

const spanOf = ({ startMs, endMs }: Reply) => ({ startMs, endMs });
