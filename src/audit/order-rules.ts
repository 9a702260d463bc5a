/** The audit's rules about orders: none is lost, each moves on until it ends once, and all stores agree. */

import { isFinal, parseOrderNo } from '../domain/order.ts';
import type { RedisHold } from '../stores/audit/redis-reads.ts';
import type { Rule, SaleSnapshot } from './snapshot.ts';

/** An order that was accepted is stored, or on its way. What was lost with Redis' data is counted instead. */
export const acceptedExist: Rule = (sale) =>
  listUnknown(sale)
    .filter((orderNo) => !isOfOlderEpoch(sale, orderNo))
    .map((subject) => ({ subject, detail: 'accepted, and neither stored, nor queued, nor running' }));

/** The accepted orders that were lost with the data of Redis before they were stored. */
export function countLost(sale: SaleSnapshot): number {
  return listUnknown(sale).filter((orderNo) => isOfOlderEpoch(sale, orderNo)).length;
}

function listUnknown({ accepted, mysql, redis, running }: SaleSnapshot): string[] {
  const known = new Set([...mysql.orders.map(({ orderNo }) => orderNo), ...redis.outbox, ...running]);
  return accepted.filter((orderNo) => !known.has(orderNo));
}

function isOfOlderEpoch({ redis }: SaleSnapshot, orderNo: string): boolean {
  return (parseOrderNo(orderNo)?.epoch ?? Infinity) < redis.epoch;
}

/** An open order has a workflow that runs, or a place in a queue, or it is ended at its deadline. */
export const openOrdersMove: Rule = ({ mysql, redis, running }) => {
  const moving = new Set([...running, ...redis.outbox]);
  return mysql.orders
    .filter(({ status, isDue, orderNo }) => !isFinal(status) && !isDue && !moving.has(orderNo))
    .map(({ orderNo, status }) => ({ subject: orderNo, detail: `${status}, and no process works on it` }));
};

/** An order ends soon after its deadline, or is parked. */
export const ordersEndInTime: Rule = ({ mysql }) =>
  mysql.orders
    .filter(({ orderNo, status, isOverdue }) => !isFinal(status) && isOverdue && !mysql.parked.has(orderNo))
    .map(({ orderNo, status }) => ({
      subject: orderNo,
      detail: `${status}, long past its deadline, and not parked`,
    }));

/** An order that no workflow has begun is ended without one, at its deadline. */
export const unbegunOrdersEnd: Rule = ({ mysql }) =>
  mysql.orders
    .filter(({ orderNo, status, isUnended }) => !isFinal(status) && isUnended && !mysql.parked.has(orderNo))
    .map(({ orderNo, status }) => ({
      subject: orderNo,
      detail: `${status}, two minutes past its deadline, and no workflow has begun`,
    }));

/**
 * Every change is recorded: versions have no gap, the last event is the order's state, and after an order's
 * one end only what it says about its money changes. Where MySQL had lost the order, it was stored or
 * abandoned anew with a first version above 1.
 */
export const historiesAreWhole: Rule = ({ mysql }) =>
  mysql.orders.flatMap(({ orderNo: subject, status, payment, version }) => {
    const events = mysql.events.get(subject) ?? [];
    const [first, last] = [events[0], events.at(-1)];
    const isStored =
      first?.status === 'awaiting_payment' && first.payment === 'none' && first.reason === null;
    const begins = first?.version === 1 || isStored || first?.status === 'failed';
    const isGapless = events.every((event, i) => event.version === version - events.length + 1 + i);
    const isAsRecorded = last?.status === status && last.payment === payment;
    const goesOn = events.every((event, i) => {
      const before = events[i - 1];
      if (!before || !isFinal(before.status)) return true;
      const isNews = event.payment !== before.payment || event.refunded !== before.refunded;
      return event.status === before.status && isNews;
    });
    if (begins && isGapless && isAsRecorded && goesOn) return [];
    const recorded = events.map((event) => `${event.version} ${event.status} ${event.payment}`).join(', ');
    const detail = `${status} ${payment} (version ${version}), recorded: ${recorded || 'nothing'}`;
    return [{ subject, detail }];
  });

/** An order costs what its items and charges add up to. A failed one has none: it was never stored whole. */
export const totalsAreSums: Rule = ({ mysql }) =>
  mysql.orders
    .filter(({ status }) => status !== 'failed')
    .flatMap(({ orderNo: subject, total, items, charges }) => {
      const ofItems = items.reduce((sum, { quantity, unitPrice }) => sum + quantity * unitPrice, 0);
      const ofCharges = charges.reduce((sum, { amount }) => sum + amount, 0);
      if (total === ofItems + ofCharges && total >= 1) return [];
      return [{ subject, detail: `costs ${total}; its items ${ofItems}, its charges ${ofCharges}` }];
    });

/** An open order has its hold. Without a hold its stock could be neither sold nor released. */
export const openOrdersHoldStock: Rule = ({ mysql, redis }) => {
  const holds = new Set(redis.holds.map(({ orderNo }) => orderNo));
  return mysql.orders
    .filter(({ orderNo, status }) => !isFinal(status) && !holds.has(orderNo))
    .map(({ orderNo, status }) => ({
      subject: orderNo,
      detail: `${status}, and Redis holds nothing for it`,
    }));
};

/**
 * A hold ends as its order did, and is `returned` only where MySQL says so. The order of a hold that is not
 * stored is queued or has a running workflow.
 */
export const holdsMatchOrders: Rule = ({ mysql, redis, running }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  const moving = new Set([...running, ...redis.outbox]);
  return redis.holds.flatMap(({ orderNo, hold }) => {
    const order = orders.get(orderNo);
    if (!order) {
      return hold === 'held' && moving.has(orderNo)
        ? []
        : [{ subject: orderNo, detail: `${hold} for an unknown order` }];
    }
    const expected = expectedHold(order);
    if (hold === expected) return [];
    return [{ subject: orderNo, detail: `the order is ${order.status}, its stock ${hold}, not ${expected}` }];
  });
};

function expectedHold({ status }: SaleSnapshot['mysql']['orders'][number]): RedisHold['hold'] {
  if (!isFinal(status)) return 'held';
  return status === 'paid' ? 'sold' : 'released';
}

/**
 * A projection shows the state of MySQL. One that is behind is updated within seconds; one ahead is always
 * wrong.
 */
export const projectionIsTrue: Rule = ({ mysql, redis }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  return redis.holds.flatMap(({ orderNo, state }) => {
    const order = orders.get(orderNo);
    if (!order || (state.version === order.version && state.status === order.status)) return [];
    const detail = `shown ${state.status} (version ${state.version}), stored ${order.status} (${order.version})`;
    return [{ subject: orderNo, detail }];
  });
};

/** A running workflow has an order that has not ended. */
export const workflowsHaveOrders: Rule = ({ mysql, redis, running }) => {
  const statuses = new Map(mysql.orders.map(({ orderNo, status }) => [orderNo, status]));
  const held = new Set(redis.holds.filter(({ hold }) => hold === 'held').map(({ orderNo }) => orderNo));
  return [...running]
    .filter((orderNo) => {
      const status = statuses.get(orderNo);
      return status === undefined ? !held.has(orderNo) : isFinal(status);
    })
    .map((subject) => ({ subject, detail: 'a workflow runs for an order that has ended or never was' }));
};
