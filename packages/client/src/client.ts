/** What a shopper's page or a shop's server does with orders: place, wait, watch, pay, cancel. */

import * as calls from './generated/shop.ts';
import {
  backOff,
  HoldfastError,
  noAnswer,
  pause,
  refusalOf,
  request,
  withDefaults,
  type CallOptions,
  type ClientOptions,
} from './send.ts';
import { readEvents } from './stream.ts';

type Answered<Call extends (...args: never[]) => Promise<{ status: number; data: unknown }>> = Extract<
  Awaited<ReturnType<Call>>,
  { status: 200 | 201 }
>['data'];
export type PlaceOrder = Parameters<typeof calls.placeOrder>[0];
export type Order = Answered<typeof calls.getOrder>;
export type OrderPage = Answered<typeof calls.listOrders>;
export type PaymentPage = Answered<typeof calls.payOrder>;
export type Sale = Answered<typeof calls.getSale>;
export type Challenge = Answered<typeof calls.createChallenge>;
export type Ticket = Answered<typeof calls.createTicket>;

/** The longest that the service lets a call wait for a change. */
const WAIT_SECONDS = 25;
/** Between two looks at an order that nothing more is expected of. */
const LOOK_MS = 5_000;
/** A stream has a sign of life every 15 seconds. */
const SILENCE_MS = 45_000;
/** Streams in a row that brought nothing. */
const STREAM_FAILURES_MAX = 3;
/** The service has no room for another stream, or knows none: then the order is polled. */
const NO_STREAM = ['too_many_watchers', 'watchers_full', 'no_such_resource'];

const FINAL: readonly string[] = ['paid', 'cancelled', 'failed'];

export interface PlaceOptions {
  /** Names the purchase: keep it until there is an answer. A fresh one unless given. */
  idempotencyKey?: string;
  /** Waits up to so many seconds until the order is stored, and can be paid. */
  waitSeconds?: number;
  signal?: AbortSignal;
}

/** Up to 100 by their numbers; or those of a sale, of a day in UTC (`2026-11-21`), or of both. */
export interface OrderSearch extends Omit<NonNullable<Parameters<typeof calls.listOrders>[0]>, 'orderNo'> {
  orderNos?: readonly string[];
}

interface Signalled {
  signal?: AbortSignal;
}

export type Client = ReturnType<typeof createClient>;

/**
 * Every method throws a HoldfastError where the service refuses or does not answer. Until then it repeats by
 * itself what may be repeated: after the Retry-After of the service, or after growing pauses.
 */
export function createClient(options: ClientOptions) {
  const client = withDefaults(options);
  const withClient = ({ signal }: Signalled, more: CallOptions = {}): CallOptions => ({
    client,
    ...more,
    ...(signal && { signal }),
  });

  /** Undefined: it is still as the tag names it. */
  async function look(
    orderNo: string,
    tag: string | undefined,
    waitSeconds: number,
    signalled: Signalled,
    triesMax = client.triesMax,
  ): Promise<{ order: Order; tag: string } | undefined> {
    // A service that knows no waits answers at once.
    const query: object = waitSeconds > 0 ? { wait: waitSeconds } : {};
    const answer = await calls.getOrder(
      orderNo,
      query,
      withClient(signalled, {
        client: { ...client, triesMax },
        timeoutMs: client.timeoutMs + waitSeconds * 1_000,
        ...(tag !== undefined && { headers: { 'If-None-Match': tag } }),
      }),
    );
    const { status }: { status: number } = answer;
    if (status === 304) return undefined;
    const { data: order, headers } = answer;
    return { order, tag: headers.get('etag') ?? tagOf(order) };
  }

  /** The order after each change, by long polls; by plain ones while the service has no room for them. */
  async function* poll(
    orderNo: string,
    known: Order | undefined,
    signalled: Signalled,
  ): AsyncGenerator<Order> {
    let order = known;
    let tag = known && tagOf(known);
    for (let waitSeconds = order ? WAIT_SECONDS : 0; ;) {
      const askedAtMs = Date.now();
      let changed: Awaited<ReturnType<typeof look>>;
      try {
        changed = await look(orderNo, tag, waitSeconds, signalled, waitSeconds > 0 ? 1 : client.triesMax);
        waitSeconds = WAIT_SECONDS;
      } catch (error) {
        if (waitSeconds === 0 || !(error instanceof HoldfastError) || isForGood(error)) throw error;
        waitSeconds = 0;
      }
      const isNewer = changed !== undefined && changed.order.version > (order?.version ?? -1);
      if (changed) {
        ({ order, tag } = changed);
        yield order;
      }
      // Not at once again where nothing was waited for.
      if (!isNewer && Date.now() - askedAtMs < 1_000)
        await pause(order?.pollAfterMs ?? LOOK_MS, signalled.signal);
    }
  }

  /** Goes on over every failure that another try may mend. */
  async function* watch(orderNo: string, signalled: Signalled = {}): AsyncGenerator<Order> {
    let known: Order | undefined;
    let hasStreams = true;
    for (let failures = 0; ;) {
      let retryMs: number | undefined;
      try {
        const source = hasStreams ? stream(orderNo, known, signalled) : poll(orderNo, known, signalled);
        for await (const order of source) {
          failures = 0;
          if (known && !isNews(order, known)) continue;
          known = order;
          yield order;
          if (isFinal(order)) return;
        }
      } catch (error) {
        signalled.signal?.throwIfAborted();
        const failure = error instanceof HoldfastError ? error : noAnswer(error);
        const isWithoutStream: boolean = hasStreams && NO_STREAM.includes(failure.code);
        if (isForGood(failure) && !isWithoutStream) throw failure;
        hasStreams &&= !isWithoutStream;
        retryMs = isWithoutStream ? 0 : failure.retryAfterMs;
      }
      failures += 1;
      // Something between may keep streams to itself.
      if (failures === STREAM_FAILURES_MAX) hasStreams = false;
      await pause(backOff(failures, retryMs), signalled.signal);
    }
  }

  /** What one connection brings. */
  async function* stream(orderNo: string, known: Order | undefined, { signal }: Signalled) {
    const silence = new AbortController();
    const startTimer = () => setTimeout(() => silence.abort(new Error('the stream is silent')), SILENCE_MS);
    let timer = startTimer();
    try {
      const headers = {
        Accept: 'text/event-stream',
        ...(known && { 'Last-Event-ID': String(known.version) }),
      };
      const response = await request(
        `/v1/orders/${encodeURIComponent(orderNo)}/events`,
        { headers },
        client,
        signal ? AbortSignal.any([signal, silence.signal]) : silence.signal,
      );
      if (!response.ok) throw await refusalOf(response);
      // 204: nothing follows what is known.
      if (response.status === 204 || !response.body) return;
      for await (const { type, data } of readEvents(response.body)) {
        clearTimeout(timer);
        timer = startTimer();
        if (type === 'order') yield JSON.parse(data) as Order;
      }
    } finally {
      clearTimeout(timer);
    }
  }

  return {
    /** Holds the stock and accepts the order, once, however often it has to be sent. */
    async place(
      order: PlaceOrder,
      { idempotencyKey = newKey(), waitSeconds, signal }: PlaceOptions = {},
    ): Promise<Order> {
      const headers = {
        'Idempotency-Key': idempotencyKey,
        ...(waitSeconds !== undefined && { Prefer: `wait=${waitSeconds}` }),
      };
      const timeoutMs = client.timeoutMs + (waitSeconds ?? 0) * 1_000;
      const answer = await calls.placeOrder(
        order,
        withClient({ ...(signal && { signal }) }, { headers, timeoutMs }),
      );
      return answer.data;
    },

    /** The order as it is now. */
    async order(orderNo: string, signalled: Signalled = {}): Promise<Order> {
      const found = await look(orderNo, undefined, 0, signalled);
      if (!found) throw new TypeError('304 to a call that named no version');
      return found.order;
    },

    /** The caller's own orders, as they are now. `next` of a page is `after` of the next one. */
    async orders({ orderNos, ...search }: OrderSearch, signalled: Signalled = {}): Promise<OrderPage> {
      const query = orderNos ? { ...search, orderNo: [...orderNos] } : search;
      return (await calls.listOrders(query, withClient(signalled))).data;
    },

    /** Waits until the order is as it is to be: until its status is final, unless told otherwise. */
    async wait(
      orderNo: string,
      until: (order: Order) => boolean = isFinal,
      signalled: Signalled = {},
    ): Promise<Order> {
      for await (const order of poll(orderNo, undefined, signalled)) if (until(order)) return order;
      throw new TypeError('polls do not end');
    },

    /** The order now and after each change, until its status is final. */
    watch,

    /** The provider's page on which the order is paid. Waits until the order can be paid. */
    async pay(orderNo: string, signalled: Signalled = {}): Promise<PaymentPage> {
      const more = { isRepeatable: true, repeatsAfter: ['not_yet_payable'] };
      return (await calls.payOrder(orderNo, withClient(signalled, more))).data;
    },

    /** Asks for the order's end. While `closing` a payment may still win: `wait` tells. */
    async cancel(orderNo: string, signalled: Signalled = {}): Promise<Order> {
      return (await calls.cancelOrder(orderNo, withClient(signalled, { isRepeatable: true }))).data;
    },

    /** Rules and stock of a sale; needs no token. */
    async sale(saleId: string, signalled: Signalled = {}): Promise<Sale> {
      return (await calls.getSale(saleId, withClient(signalled))).data;
    },

    /** What a device solves for a ticket where a sale has `verification`, as altcha's widget takes it. */
    async challenge(saleId: string, signalled: Signalled = {}): Promise<Challenge> {
      return (await calls.createChallenge(saleId, withClient(signalled, { isRepeatable: true }))).data;
    },

    /** The ticket for a solved challenge, for one `place`. @param payload as the widget gives it */
    async ticket(saleId: string, payload: string, signalled: Signalled = {}): Promise<Ticket> {
      const more = { isRepeatable: true };
      return (await calls.createTicket(saleId, { payload }, withClient(signalled, more))).data;
    },
  };
}

/** Of one version that is not stored yet, or is lost, more may be known than before. */
function isNews(order: Order, known: Order): boolean {
  if (order.version !== known.version) return order.version > known.version;
  return order.status !== known.status || order.closing !== known.closing;
}

/** As the service names most states. */
function tagOf({ version }: Order): string {
  return `"${version}"`;
}

/** Nothing more is to come but of its money. */
export function isFinal({ status }: Pick<Order, 'status'>): boolean {
  return FINAL.includes(status);
}

/** Another try gets the same. */
function isForGood({ status }: HoldfastError): boolean {
  return status >= 400 && status < 500 && status !== 429;
}

/** Also where a page has no secure context, and so no crypto.randomUUID. */
export function newKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) =>
    byte.toString(16).padStart(2, '0'),
  ).join('');
}
