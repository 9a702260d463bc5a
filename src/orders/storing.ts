/**
 * Stores accepted orders for callers who wait for it, so that no worker need run: those of a moment in one
 * transaction, one transaction at a time. Whatever is left half-way, a relay finds in the outbox and repeats.
 */

import { setImmediate as nextTurn, setTimeout as delay } from 'node:timers/promises';
import { SYSTEM_CLOCK } from '../clock.ts';
import { orderKeys } from '../redis/keys.ts';
import type { Stores } from '../stores/open.ts';
import { createTurns } from '../turns.ts';
import { abandonOrder, storeWithHold } from './both-stores.ts';
import { withShown, type Order } from './content.ts';
import { follow } from './follow.ts';
import { parseOrderNo, type FailureReason, type OrderState } from './order.ts';
import type { ReservedOrder } from './reservations.redis.ts';

/** Orders of one transaction: half of what a relay may store in one, in a process that sells meanwhile. */
const BATCH_MAX = 250;
/**
 * Orders that wait at once. A process stores about as many in a second or two; while MySQL is away each is
 * forgotten at the end of its wait.
 */
const ORDERS_MAX = 2_000;
/**
 * The first and the longest pause after a batch of which nothing became durable. MySQL is noticed within the
 * wait that it returns in.
 */
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 500;

/**
 * How the waiting for an order ended. late: its time was over first, and what becomes of it is open; `order`
 * as Redis had it, where that was read.
 */
export type StoringEnd = Stored | { kind: 'late'; order?: Order | undefined };
type Stored = { kind: 'stored' | 'failed' } & ReservedOrder;

export type Storing = ReturnType<typeof createStoring>;

interface Waiting {
  /** By the clock. */
  untilMs: number;
  saleId: string;
  askers: Set<(end: StoringEnd) => void>;
  order?: Order;
}

export function createStoring(stores: Stores, clock = SYSTEM_CLOCK) {
  /** By orderNo, those that were tried longest ago first. */
  const waiting = new Map<string, Waiting>();
  /** Undefined: nothing waits. */
  let working: Promise<void> | undefined;
  let isStopping = false;

  /** In turns by sale: callers of a sale in a rush wait for the next batch, and not those of the others. */
  function takeBatch(): string[] {
    if (isStopping) return [];
    const nowMs = clock.nowMs();
    const turns = createTurns<string>();
    for (const [orderNo, { untilMs, saleId }] of waiting) {
      if (untilMs <= nowMs) waiting.delete(orderNo);
      else turns.add(saleId, orderNo);
    }
    const batch: string[] = [];
    while (batch.length < BATCH_MAX) {
      const next = turns.take();
      if (next === undefined) break;
      batch.push(next);
    }
    return batch;
  }

  /** What is not decided goes behind the others. */
  async function storeOnce(batch: readonly string[]): Promise<boolean> {
    let isProgress = false;
    const decide = (end: Stored): void => {
      isProgress = true;
      const { askers } = waiting.get(end.order.orderNo) ?? { askers: [] };
      waiting.delete(end.order.orderNo);
      for (const ask of askers) ask(end);
    };
    const isRead = (order: Order): void => {
      const asked = waiting.get(order.orderNo);
      if (asked) asked.order = order;
    };
    try {
      await storeTogether(stores, batch, isRead, decide);
    } catch (error) {
      stores.log.warn({ err: error, orders: batch.length }, 'orders that callers wait for were not stored');
    }
    for (const orderNo of batch) {
      const left = waiting.get(orderNo);
      if (!left) continue;
      waiting.delete(orderNo);
      waiting.set(orderNo, left);
    }
    return isProgress;
  }

  async function work(): Promise<void> {
    let failures = 0;
    // Those who come in the same turn are stored together.
    await nextTurn();
    for (let batch = takeBatch(); batch.length > 0; batch = takeBatch()) {
      if (await storeOnce(batch)) {
        failures = 0;
      } else {
        await delay(Math.min(FIRST_PAUSE_MS * 2 ** failures, MAX_PAUSE_MS));
        failures += 1;
      }
    }
    working = undefined;
  }

  return {
    hasRoom: (): boolean => waiting.size < ORDERS_MAX,

    /**
     * Has the order stored, also when nobody hears of it any more.
     * @param untilMs when its caller stops to wait, by the clock
     */
    store(orderNo: string, untilMs: number): Promise<StoringEnd> {
      return new Promise((resolve) => {
        const asked = waiting.get(orderNo) ?? { askers: new Set(), untilMs, saleId: saleIdOf(orderNo) };
        const lateMs = untilMs - clock.nowMs();
        const endWait = clock.after(lateMs, () => end({ kind: 'late', order: asked.order }));
        const end = (how: StoringEnd): void => {
          endWait();
          asked.askers.delete(end);
          resolve(how);
        };
        asked.untilMs = Math.max(untilMs, asked.untilMs);
        asked.askers.add(end);
        waiting.set(orderNo, asked);
        working ??= work();
      });
    },

    /** Ends with the transaction that is under way. */
    async stop(): Promise<void> {
      isStopping = true;
      await working;
    },
  };
}

const saleIdOf = (orderNo: string): string => parseOrderNo(orderNo)?.saleId ?? '';

interface Accepted extends ReservedOrder {
  entryId: string;
}

/**
 * @param decide is called for each order that is durable, or has failed for good, once pollers see it
 * @throws when MySQL or Redis is away
 */
async function storeTogether(
  stores: Stores,
  orderNos: readonly string[],
  isRead: (order: Order) => void,
  decide: (end: Stored) => void,
): Promise<void> {
  const accepted = await readAccepted(stores, orderNos);
  if (accepted.length === 0) return;
  for (const { order } of accepted) isRead(order);
  const { orders, reservations, tracing } = stores;
  const batch = accepted.map(({ order }) => order);
  const store = () => orders.storeOrders(batch, 'due');
  const outcomes = await (tracing ? tracing.storePage(batch, store) : store());
  const durable: Accepted[] = [];
  for (const entry of accepted) {
    const outcome = outcomes.get(entry.order.orderNo);
    if (outcome && outcome.kind !== 'refused') durable.push({ ...entry, state: outcome.state });
    else if (outcome) await endRefused(stores, entry, outcome.reason, decide);
  }
  const followed = await follow(stores, durable.map(changeOf));
  for (const entry of durable)
    decide(endOf({ ...entry, state: followed.get(entry.order.orderNo)?.state ?? entry.state }));
  const done = durable.filter(({ order }) => followed.get(order.orderNo)?.hold !== 'failed');
  await Promise.all(bySale(done).map((entries) => reservations.takeOffOutbox(entries)));
}

const changeOf = ({ order: { orderNo }, state }: ReservedOrder) => ({ orderNo, state });

function endOf({ order, state }: ReservedOrder): Stored {
  return { kind: state.status === 'failed' ? 'failed' : 'stored', order, state };
}

/** One sale whose data cannot be read keeps back no other. */
async function readAccepted({ reservations, log }: Stores, orderNos: readonly string[]): Promise<Accepted[]> {
  const asked = bySale(orderNos.map((orderNo) => ({ order: { orderNo } })));
  const found = await Promise.allSettled(
    asked.map((ofSale) => reservations.readWithEntries(ofSale.map(({ order }) => order.orderNo))),
  );
  return found.flatMap((read) => {
    if (read.status === 'rejected')
      log.warn({ err: read.reason as unknown }, 'accepted orders cannot be read');
    const orders = read.status === 'fulfilled' ? read.value : [];
    return orders.map((entry) => ({ ...entry, order: withShown(entry.order, entry.state) }));
  });
}

function bySale<T extends { order: Pick<Order, 'orderNo'> }>(entries: readonly T[]): T[][] {
  const groups = new Map<string, T[]>();
  for (const entry of entries) {
    const { sale } = orderKeys(entry.order.orderNo);
    groups.set(sale, [...(groups.get(sale) ?? []), entry]);
  }
  return [...groups.values()];
}

/**
 * An order that MySQL refuses. Where its sale's data were made again, its stock is reserved again; else it is
 * abandoned, as its workflow would do. What fails is left to a relay: the order is in the outbox.
 */
async function endRefused(
  stores: Stores,
  { order, state }: Accepted,
  reason: FailureReason,
  decide: (end: Stored) => void,
): Promise<void> {
  // MySQL has lost it, and the goods may be on their way: it is for an operator.
  if (state.status === 'paid') return;
  try {
    const again = reason === 'lost_hold' ? await storeWithHold(stores, order, 'due') : undefined;
    if (again && again.kind !== 'refused') {
      const shown = await follow(stores, [changeOf({ order, state: again.state })]);
      decide(endOf({ order, state: shown.get(order.orderNo)?.state ?? again.state }));
      return;
    }
    const failed: OrderState = await abandonOrder(stores, order, reason);
    decide(endOf({ order, state: failed }));
  } catch (error) {
    stores.log.warn({ err: error, orderNo: order.orderNo }, 'an order that MySQL refuses was not ended');
  }
}
