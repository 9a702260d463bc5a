/** Rules about orders: none is lost, each moves until it has ended once, and all that know of it agree. */

import { isFinal } from '../domain/order.ts';
import type { Rule } from './snapshot.ts';

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

/** Every change is recorded: versions without a gap, the last as the order is, and one end at most. */
export const historiesAreWhole: Rule = ({ mysql }) =>
  mysql.orders.flatMap(({ orderNo: subject, status, version }) => {
    const events = mysql.events.get(subject) ?? [];
    const isGapless = events.length === version && events.every((event, i) => event.version === i + 1);
    const ends = events.filter((event) => isFinal(event.status)).length;
    const isWhole = isGapless && events.at(-1)?.status === status && ends === (isFinal(status) ? 1 : 0);
    if (isWhole) return [];
    const recorded = events.map((event) => `${event.version} ${event.status}`).join(', ');
    return [{ subject, detail: `${status} (version ${version}), recorded: ${recorded || 'nothing'}` }];
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

/** A hold ends as its order did; one whose order is not stored is queued or running. */
export const holdsMatchOrders: Rule = ({ mysql, redis, running }) => {
  const statuses = new Map(mysql.orders.map(({ orderNo, status }) => [orderNo, status]));
  const moving = new Set([...running, ...redis.outbox]);
  return redis.holds.flatMap(({ orderNo, hold }) => {
    const status = statuses.get(orderNo);
    if (status === undefined) {
      return hold === 'held' && moving.has(orderNo)
        ? []
        : [{ subject: orderNo, detail: `${hold} for an order that nobody knows` }];
    }
    const expected = !isFinal(status) ? ['held'] : status === 'paid' ? ['sold', 'returned'] : ['released'];
    return expected.includes(hold)
      ? []
      : [{ subject: orderNo, detail: `the order is ${status}, its stock ${hold}` }];
  });
};

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
