/** The feed of events: numbers what was committed, and gives shops pages of it with snapshots. */

import { setTimeout as delay } from 'node:timers/promises';
import { z } from 'zod';
import { ORDER_BUCKETS, type WorkerMetrics } from '../metrics.ts';
import { type Order, orderStateSchema, showOrder } from '../orders/content.ts';
import { type OrderState, parseOrderNo } from '../orders/order.ts';
import type { Stores } from '../stores/open.ts';
import {
  ORDER_NEWS_TYPES,
  typeOfChange,
  type OrderEventType,
  type OrderNews,
  type OrderNewsType,
} from './event.ts';
import type { CountedChanges, EventRow, ShopEventRow } from './events.sql.ts';

/**
 * Bytes of the sales in one answer. A sale of 200 SKUs with all their data has half a megabyte, and 500
 * changes of it would be an answer that no proxy, and hardly a consumer, takes.
 */
export const MAX_EVENTS_PAGE_BYTES = 4 * 1024 * 1024;

/** A transaction of some 20 ms, so that a dispatcher that dies leaves little undone. */
const PAGE_MAX = 1_000;
/** As the histograms have them. */
const BUCKETS_MS = ORDER_BUCKETS.map((seconds) => 1_000 * seconds);
/** An event can be read within a second of its commit; and other dispatchers look whether they are needed. */
const IDLE_PAUSE_MS = 200;

/**
 * @param metrics counts each change once: the process counts that has numbered it. One that dies in between
 *   leaves a page uncounted
 * @returns one pass of the loop; the pass returns the pause before the next, in ms
 */
export function createDispatcher({ eventRows, feedMarks, log }: Stores, metrics: WorkerMetrics) {
  /** The greatest number that this process knows as given; undefined: Redis was never asked. */
  let given: number | undefined;
  /** What Redis has, which may have lost it since. */
  let marked = 0;

  /** @throws while Redis is away and was never asked by this process */
  async function readGiven(feedId: string): Promise<number> {
    try {
      marked = await feedMarks.read(feedId);
      given = Math.max(given ?? 0, marked);
    } catch (error) {
      // Events are numbered all the same, by what this process knows itself.
      if (given === undefined) throw error;
    }
    return given;
  }

  /** A mark that Redis does not take now is set by the next pass. */
  async function mark(feedId: string, sequence: number): Promise<void> {
    given = Math.max(given ?? 0, sequence);
    if (given <= marked) return;
    const raised = given;
    await feedMarks.raise(feedId, raised).then(
      () => (marked = raised),
      () => undefined,
    );
  }

  /** Metrics delay no event: what fails is left uncounted. */
  async function countFrom(after: number, upTo: number): Promise<void> {
    try {
      for (const changes of await eventRows.countChanges(after, upTo, BUCKETS_MS)) count(metrics, changes);
    } catch (error) {
      log.warn({ err: error, events: upTo - after }, 'changes of orders were not counted in the metrics');
    }
  }

  return async function pass(): Promise<number> {
    const { feedId, last } = await eventRows.readFeed();
    const had = await readGiven(feedId);
    if (last < had) {
      const lost = await eventRows.skipLostNumbers(had);
      if (lost)
        log.error(
          lost,
          'MySQL has lost commits; what to do is in docs/operations.md, "When MySQL loses commits"',
        );
      return 0;
    }
    const outcome = await eventRows.numberEvents(PAGE_MAX, had);
    const events = outcome.kind === 'numbered' ? outcome.events : 0;
    await mark(feedId, last + events);
    if (outcome.kind === 'numbered' && events > 0) await countFrom(outcome.after, outcome.after + events);
    return events === PAGE_MAX ? 0 : IDLE_PAUSE_MS;
  };
}

/** Counts what became of the orders by their changes. */
function count(metrics: WorkerMetrics, changes: CountedChanges): void {
  const { state, before, orders, acceptedAgoMs, noticedAgoMs } = changes;
  const type = typeOfChange(changes);
  switch (type) {
    case 'order.awaiting_payment':
      metrics.orderChanged('payable', orders);
      metrics.stored(changes.isStoredByWorkflow ? 'workflow' : 'relay', orders);
      if (acceptedAgoMs !== null) metrics.payableAfter(acceptedAgoMs, orders);
      break;
    case 'order.paid':
      metrics.orderChanged('paid', orders);
      if (changes.isUnbegun) metrics.paidUnbegun(orders);
      if (noticedAgoMs !== null) metrics.paidAfter(noticedAgoMs, orders);
      break;
    case 'order.cancelled':
      metrics.orderChanged('cancelled', orders);
      if (changes.isUnbegun) metrics.endedUnbegun(orders);
      break;
    case 'order.payment_changed': {
      const isRefunded = state.payment === 'refunded' && before?.payment !== 'refunded';
      metrics.orderChanged(isRefunded ? 'refunded' : 'payment_changed', orders);
      break;
    }
    case 'order.failed':
      metrics.orderChanged('failed', orders);
      break;
    case 'order.closing':
      metrics.orderChanged('closing', orders);
      break;
    case 'order.deadline_extended':
      metrics.orderChanged('deadline_extended', orders);
      break;
    default:
      return type satisfies never;
  }
}

type OrderSnapshot = ReturnType<typeof snapshotOrder>;

/**
 * The content never changes after the order was accepted; the state is that of the event's version. An
 * abandoned order has no items, as it was never stored. After the person was erased, `userId` is the token in
 * their place. The shopper's address and browser are left out.
 */
function snapshotOrder(order: Order, state: OrderState) {
  return { userId: order.userId, ...showOrder(order, state) };
}

interface Common {
  /** The same whenever and however it is delivered. */
  id: string;
  sequence: number;
  /** RFC 3339. */
  occurredAt: string;
}

interface OrderEvent extends Common {
  type: OrderEventType | OrderNewsType;
  saleId: string;
  orderNo: string;
  version: number;
  data: { order: OrderSnapshot };
}

interface ShopEvent extends Common {
  /** As `ShopEventRow` has it. */
  type: string;
  saleId: string | null;
  data: Record<string, unknown>;
}

export type FeedEvent = OrderEvent | ShopEvent;

/** What a reader wants; undefined: all. */
export interface EventFilter {
  types?: ReadonlySet<string> | undefined;
  saleId?: string | undefined;
}

/**
 * next: where to go on. It is beyond the last event of the page where others follow that do not match. last:
 * the sequence of the last event of all.
 */
export interface FeedPage {
  events: FeedEvent[];
  next: number;
  last: number;
}

/** ahead: the reader asks for what follows an event that does not exist. */
export type FeedRead = ({ kind: 'page' } & FeedPage) | { kind: 'ahead'; last: number };

export interface FeedQuery {
  after: number;
  limit: number;
  filter: EventFilter;
}

/** Rows read at once for a reader who wants only some. */
const FILTERED_PAGE = 1_000;
/** A reader who finds nothing in so many pages is answered with how far the search has come. */
const FILTERED_PAGES_MAX = 5;

/**
 * The events that follow, at most `limit` of those that match, and fewer where sales with many SKUs fill the
 * page.
 */
export async function readEvents(stores: Stores, { after, limit, filter }: FeedQuery): Promise<FeedRead> {
  const { eventRows } = stores;
  const last = await eventRows.readLastSequence();
  if (after > last) return { kind: 'ahead', last };
  const isFiltered = filter.types !== undefined || filter.saleId !== undefined;
  const max = isFiltered ? FILTERED_PAGE : limit;
  const found: EventRow[] = [];
  let next = after;
  let maxBytes = MAX_EVENTS_PAGE_BYTES;
  for (let page = 0; page < FILTERED_PAGES_MAX && found.length < limit && next < last; page += 1) {
    const { rows, readTo } = await eventRows.list({ after: next, upTo: last, max, maxBytes });
    const matching = rows.filter((row) => matches(row, filter));
    maxBytes -= bytesOf(matching);
    // What came before is a page; this goes into the next one.
    if (maxBytes < 0 && found.length > 0) break;
    found.push(...matching);
    // What lies between is read: a row that was deleted by hand leaves a gap for good.
    next = readTo;
    if (found.length > limit) next = found[limit - 1]?.sequence ?? next;
    if (maxBytes <= 0) break;
  }
  return { kind: 'page', events: await toEvents(stores, found.slice(0, limit)), next, last };
}

/** With their snapshots; in the order of `rows`. */
async function toEvents({ eventRows }: Stores, rows: readonly EventRow[]): Promise<FeedEvent[]> {
  const orderNos = new Set(rows.flatMap((row) => orderNoOf(row) ?? []));
  const orders = await eventRows.readOrders([...orderNos]);
  return rows.flatMap((row): FeedEvent[] => {
    const common = { sequence: row.sequence, occurredAt: row.occurredAt.toISOString() };
    if (row.kind === 'shop') {
      const { type, saleId, data } = row;
      // Not by MySQL's own number of the row, which is given again after commits were lost.
      const id = `shop.${row.sequence}`;
      const news = newsOf(row);
      if (!news) return [{ id, ...common, type, saleId, data }];
      const about = orders.get(news.orderNo);
      if (!about) return [];
      const {
        state: { version },
      } = news;
      const order = snapshotOrder(about.order, news.state);
      const named = { saleId: about.order.saleId, orderNo: news.orderNo, version };
      return [{ id, ...common, type: news.type, ...named, data: { order } }];
    }
    const { orderNo, state } = row;
    const stored = orders.get(orderNo);
    // The order was deleted by hand. That must not end the feed for all others.
    if (!stored) return [];
    const { version } = state;
    const { saleId } = stored.order;
    const data = { order: snapshotOrder(stored.order, state) };
    return [
      { id: `${orderNo}.${version}`, ...common, type: typeOfChange(row), saleId, orderNo, version, data },
    ];
  });
}

/** What is recorded of an order beside its changes. */
const orderNews = z.object({ orderNo: z.string(), state: orderStateSchema });

function newsOf(row: ShopEventRow): (OrderNews & { type: OrderNewsType }) | undefined {
  const type = ORDER_NEWS_TYPES.find((known) => known === row.type);
  // One that a newer version has written otherwise must not end the feed for all.
  const { data } = orderNews.safeParse(row.data);
  return type && data && { type, ...data };
}

function orderNoOf(row: EventRow): string | undefined {
  return row.kind === 'order' ? row.orderNo : newsOf(row)?.orderNo;
}

function bytesOf(rows: readonly EventRow[]): number {
  return rows.reduce((sum, row) => sum + (row.kind === 'shop' ? row.bytes : 0), 0);
}

function matches(row: EventRow, { types, saleId }: EventFilter): boolean {
  const [type, ofSale] =
    row.kind === 'order' ? [typeOfChange(row), parseOrderNo(row.orderNo)?.saleId] : [row.type, row.saleId];
  return (!types || types.has(type)) && (saleId === undefined || ofSale === saleId);
}

// Wakes the callers that wait for a further event. One look at MySQL serves all that wait in this process.
// There is none while none waits.

/** With the dispatcher's pause, an event reaches a waiting consumer within half a second. */
const LOOK_EVERY_MS = 200;

interface Waiting {
  after: number;
  wake: () => void;
  fail: (error: unknown) => void;
}

export type EventTicker = ReturnType<typeof createEventTicker>;

export function createEventTicker({
  eventRows,
}: {
  eventRows: Pick<Stores['eventRows'], 'readLastSequence'>;
}) {
  const waiting = new Set<Waiting>();
  const stopping = new AbortController();
  let isLooking = false;

  async function look(): Promise<void> {
    isLooking = true;
    while (waiting.size > 0) {
      try {
        const last = await eventRows.readLastSequence();
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
