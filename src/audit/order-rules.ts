/** Rules about orders: none is lost, each moves until it has ended once, and all that know of it agree. */

import { isFinal } from '../domain/order.ts';
import type { RedisHold } from '../stores/audit/redis-reads.ts';
import type { Rule, SaleSnapshot } from './snapshot.ts';

/** What a shopper was told is accepted is stored, or on its way. */
export const acceptedExist: Rule = ({ accepted, mysql, redis, running }) => {
  const known = new Set([...mysql.orders.map(({ orderNo }) => orderNo), ...redis.outbox, ...running]);
  return accepted
    .filter((orderNo) => !known.has(orderNo))
    .map((subject) => ({ subject, detail: 'accepted, and neither stored, nor queued, nor running' }));
};

/** An open order has a workflow that runs, or a place in a queue. */
export const openOrdersMove: Rule = ({ mysql, redis, running }) => {
  const moving = new Set([...running, ...redis.outbox]);
  return mysql.orders
    .filter(({ status, isDue, orderNo }) => !isFinal(status) && !isDue && !moving.has(orderNo))
    .map(({ orderNo, status }) => ({ subject: orderNo, detail: `${status}, and nobody works on it` }));
};

/** An order ends soon after its deadline; one that cannot is shown to a person. */
export const ordersEndInTime: Rule = ({ mysql }) =>
  mysql.orders
    .filter(({ orderNo, status, isOverdue }) => !isFinal(status) && isOverdue && !mysql.parked.has(orderNo))
    .map(({ orderNo, status }) => ({
      subject: orderNo,
      detail: `${status}, long past its deadline, and no person knows`,
    }));

/** Every change is recorded: versions without a gap, the last as the order is, and one end at most, after which only its money changes. */
export const historiesAreWhole: Rule = ({ mysql }) =>
  mysql.orders.flatMap(({ orderNo: subject, status, payment, version }) => {
    const events = mysql.events.get(subject) ?? [];
    const isGapless = events.length === version && events.every((event, i) => event.version === i + 1);
    const last = events.at(-1);
    const isAsRecorded = last?.status === status && last.payment === payment;
    const goesOn = events.every((event, i) => {
      const before = events[i - 1];
      if (!before || !isFinal(before.status)) return true;
      return event.status === before.status && event.payment !== before.payment;
    });
    if (isGapless && isAsRecorded && goesOn) return [];
    const recorded = events.map((event) => `${event.version} ${event.status} ${event.payment}`).join(', ');
    const detail = `${status} ${payment} (version ${version}), recorded: ${recorded || 'nothing'}`;
    return [{ subject, detail }];
  });

/** An open order has its hold: without one its stock could be neither sold nor given back. */
export const openOrdersHoldStock: Rule = ({ mysql, redis }) => {
  const holds = new Set(redis.holds.map(({ orderNo }) => orderNo));
  return mysql.orders
    .filter(({ orderNo, status }) => !isFinal(status) && !holds.has(orderNo))
    .map(({ orderNo, status }) => ({
      subject: orderNo,
      detail: `${status}, and Redis holds nothing for it`,
    }));
};

/** A hold ends as its order did, and comes back only if MySQL says so; one whose order is not stored is queued or running. */
export const holdsMatchOrders: Rule = ({ mysql, redis, running }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  const moving = new Set([...running, ...redis.outbox]);
  return redis.holds.flatMap(({ orderNo, hold }) => {
    const order = orders.get(orderNo);
    if (!order) {
      return hold === 'held' && moving.has(orderNo)
        ? []
        : [{ subject: orderNo, detail: `${hold} for an order that nobody knows` }];
    }
    const expected = expectedHold(order);
    if (hold === expected) return [];
    return [{ subject: orderNo, detail: `the order is ${order.status}, its stock ${hold}, not ${expected}` }];
  });
};

function expectedHold({
  status,
  isStockReturned,
}: SaleSnapshot['mysql']['orders'][number]): RedisHold['hold'] {
  if (!isFinal(status)) return 'held';
  if (status !== 'paid') return 'released';
  return isStockReturned ? 'returned' : 'sold';
}

/** The projection never runs ahead of MySQL; where it is behind, somebody is about to update it. */
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
