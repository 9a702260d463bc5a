/** The rules about orders, their stock and their events. */

import { isFinal, parseOrderNo } from '../orders/order.ts';
import type { StockCount } from '../sales/sale.ts';
import type { Rule, SaleSnapshot } from './look.ts';
import { type RedisHold, limitField } from './reads.redis.ts';
import type { AuditedNews } from './reads.sql.ts';

// The audit's rules about orders: none is lost, each moves on until it ends once, and all stores agree.

/** An order that was accepted is stored, or on its way. What was lost with Redis' data is listed instead. */
export const acceptedExist: Rule = (sale) =>
  listUnknown(sale)
    .filter((orderNo) => !isOfOlderEpoch(sale, orderNo))
    .map((subject) => ({ subject, detail: 'accepted, and neither stored, nor queued, nor running' }));

/** The accepted orders that were lost with the data of Redis, or of both stores. */
export function listLost(sale: SaleSnapshot): string[] {
  return listUnknown(sale).filter((orderNo) => isOfOlderEpoch(sale, orderNo));
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
 * Once what was called off is over, no order of it is open without the wish to cancel, and none is paid of
 * which no money was asked back, or is listed instead.
 */
export const calledOffIsOver: Rule = ({ mysql: { orders, payments, callingOffs } }) => {
  const asked = new Set(payments.filter(({ refunds }) => refunds.length > 0).map(({ orderNo }) => orderNo));
  return orders.flatMap(({ orderNo, status, payment, reason, items }) => {
    const isCalledOff = callingOffs.ended.some((off) => off === '' || items.some(({ sku }) => sku === off));
    if (!isCalledOff) return [];
    const isKept = status === 'paid' && payment !== 'refunded';
    const isLeft = isKept && !asked.has(orderNo) && !callingOffs.excepted.has(orderNo);
    const isOpen = !isFinal(status) && reason === null;
    return isOpen || isLeft ? [{ subject: orderNo, detail: `${status} ${payment}, though called off` }] : [];
  });
};

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
      if (total === ofItems + ofCharges && total >= 0) return [];
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

// The audit's rules about stock: each unit is counted once in each store, and held or sold for an order.

/**
 * In each store total = available + held + sold, and both agree except for orders that are yet to be stored.
 */
export const stockAddsUp: Rule = ({ redisStock, isRedisCleaned, mysqlStock, redis, mysql }) => {
  const waiting = sumUnits(heldUnstored({ redis, mysql }), ({ sku }) => sku);
  const skus = new Set([...redisStock, ...mysqlStock].map(({ sku }) => sku));
  return [...skus].flatMap((sku) => {
    const inRedis = redisStock.find((count) => count.sku === sku);
    const inMysql = mysqlStock.find((count) => count.sku === sku);
    if (!inRedis && inMysql && isRedisCleaned) return addsUp(inMysql, 'MySQL');
    if (!inRedis || !inMysql) {
      return [{ subject: sku, detail: `${inRedis ? 'MySQL' : 'Redis'} does not have it` }];
    }
    const findings = [...addsUp(inRedis, 'Redis'), ...addsUp(inMysql, 'MySQL')];
    const heldInMysql = inMysql.held + (waiting.get(sku) ?? 0);
    const isAgreed =
      inRedis.total === inMysql.total && inRedis.sold === inMysql.sold && inRedis.held === heldInMysql;
    if (isAgreed) return findings;
    const detail = `Redis ${describeStock(inRedis)}; MySQL ${describeStock(inMysql)}, ${waiting.get(sku) ?? 0} yet to be stored`;
    return [...findings, { subject: sku, detail }];
  });
};

function addsUp(count: StockCount, store: 'Redis' | 'MySQL'): ReturnType<Rule> {
  const { sku: subject, total, available, held, sold } = count;
  const isRight = total === available + held + sold && Math.min(available, held, sold) >= 0;
  return isRight ? [] : [{ subject, detail: `${store}: ${describeStock(count)}` }];
}

/** The counters are the sum of the ledger. */
export const ledgerAddsUp: Rule = ({ mysqlStock, mysql }) =>
  mysqlStock.flatMap(({ sku, held, sold }) => {
    const booked = mysql.ledger.get(sku) ?? { held: 0, sold: 0 };
    if (booked.held === held && booked.sold === sold) return [];
    const detail = `counted ${held} held, ${sold} sold; booked ${booked.held} and ${booked.sold}`;
    return [{ subject: sku, detail }];
  });

/**
 * Held units belong to open orders, and sold ones to paid orders that kept them. This finds a unit that both
 * stores lost alike.
 */
export const ordersAccountForStock: Rule = ({ mysqlStock, mysql }) => {
  const unitsOf = (status: string) =>
    sumUnits(
      mysql.orders.filter((order) => order.status === status).map(lessReturned('stockReturned')),
      ({ sku }) => sku,
    );
  const [open, paid] = [unitsOf('awaiting_payment'), unitsOf('paid')];
  return mysqlStock.flatMap(({ sku, held, sold }) => {
    const [isOpen, isPaid] = [open.get(sku) ?? 0, paid.get(sku) ?? 0];
    if (held === isOpen && sold === isPaid) return [];
    const detail = `counted ${held} held, ${sold} sold; in open orders ${isOpen}, in paid ones ${isPaid}`;
    return [{ subject: sku, detail }];
  });
};

/** A user's limit counts the units that the user holds or owns, less those whose limit was given back. */
export const limitsAreTrue: Rule = ({ mysql, redis, isRedisCleaned }) => {
  if (isRedisCleaned) return [];
  const theirs = [
    ...mysql.orders
      .filter(({ status }) => status === 'awaiting_payment' || status === 'paid')
      .map(lessReturned('limitReturned')),
    ...heldUnstored({ redis, mysql }),
  ];
  const owned = sumUnits(theirs, ({ sku }, { userId }) => limitField(sku, userId));
  return [...new Set([...owned.keys(), ...redis.limits.keys()])].flatMap((subject) => {
    const [has, counted] = [owned.get(subject) ?? 0, redis.limits.get(subject) ?? 0];
    return has === counted ? [] : [{ subject, detail: `holds or owns ${has}, counted ${counted}` }];
  });
};

/** The orders that are accepted and yet to be stored, whose units only Redis counts. */
function heldUnstored({ redis, mysql }: Pick<SaleSnapshot, 'redis' | 'mysql'>) {
  const stored = new Set(mysql.orders.map(({ orderNo }) => orderNo));
  return redis.holds.filter(({ hold, orderNo }) => hold === 'held' && !stored.has(orderNo));
}

/** The order's cart without the units that went back. */
function lessReturned(which: 'stockReturned' | 'limitReturned') {
  return ({ userId, items }: SaleSnapshot['mysql']['orders'][number]): Cart => ({
    userId,
    items: items.map((item) => ({ sku: item.sku, quantity: item.quantity - item[which] })),
  });
}

interface Cart {
  userId: string;
  items: readonly { sku: string; quantity: number }[];
}

function sumUnits(
  carts: readonly Cart[],
  keyOf: (item: { sku: string }, cart: Cart) => string,
): Map<string, number> {
  const sums = new Map<string, number>();
  for (const cart of carts) {
    for (const item of cart.items) {
      const key = keyOf(item, cart);
      sums.set(key, (sums.get(key) ?? 0) + item.quantity);
    }
  }
  return sums;
}

function describeStock({ total, available, held, sold }: StockCount): string {
  return `${total} = ${available} + ${held} + ${sold}`;
}

// The audit's rules about events: no change without its event, and none that a reader could miss.

/** Each change of an order (those from before the feed have 0) and of the sale has its place in the feed. */
export const changesAreInFeed: Rule = ({ saleId, mysql }) => [
  ...[...mysql.events].flatMap(([subject, events]) =>
    events
      .filter(({ sequence }) => sequence === null)
      .map(({ version, status }) => ({
        subject,
        detail: `version ${version} (${status}) is not in the feed`,
      })),
  ),
  ...(mysql.news ? findWithoutEvent(mysql.news) : []).map((detail) => ({ subject: saleId, detail })),
];

/** What became of the sale and has no event, or more than one. */
function findWithoutEvent({
  isNew,
  version,
  isArchived,
  soldOutCount,
  isMarked,
  events,
}: AuditedNews): string[] {
  const count = (type: string) => events.filter((event) => event.type === type).length;
  const marks = Object.entries(isMarked).flatMap(([mark, isDue]) => {
    const times = count(`sale.${mark}`);
    return times > 1 || (isDue && times === 0) ? [`sale.${mark} has ${times} events`] : [];
  });
  const soldOut = count('sale.sold_out');
  if (isNew && soldOut < soldOutCount) marks.push(`sold out ${soldOutCount} times, with ${soldOut} events`);

  const changed = events.flatMap((event) => (event.type === 'sale.changed' ? [event.version] : []));
  const distinct = new Set(changed);
  // An older sale may have changed without an event before its first one.
  const first = isNew ? 2 : Math.min(...changed);
  const dueVersions = Math.max(0, version - first + 1) - (isArchived ? 1 : 0);
  const versions = changed.filter((one) => one >= first && one <= version).length;
  if (changed.length > distinct.size) marks.push('a version has two events');
  if (versions < dueVersions) marks.push(`of ${dueVersions} changes ${versions} have an event`);
  return marks;
}

/** A reader of the feed meets the versions of each order in their order. */
export const eventsKeepOrder: Rule = ({ mysql }) =>
  [...mysql.events].flatMap(([subject, events]) => {
    const sequences = events.flatMap(({ sequence }) => (sequence === null ? [] : [sequence]));
    const isInOrder = sequences.every((sequence, i) => {
      const before = sequences[i - 1] ?? 0;
      return before === 0 || sequence > before;
    });
    return isInOrder ? [] : [{ subject, detail: `its versions have the sequences ${sequences.join(', ')}` }];
  });

/** The feed has each number from 1 to the last once, but those left out, and nothing stays out of it. */
export const feedIsWhole: Rule = ({ feed }) => {
  if (!feed) return [];
  const { last, numbered, leftOut, wrong, waiting } = feed;
  const found = (detail: string) => ({ subject: 'the feed', detail });
  return [
    ...(numbered + leftOut === last
      ? []
      : [found(`${numbered} events up to number ${last}, with ${leftOut} left out`)]),
    ...wrong.map((sequence) => found(`number ${sequence} is there twice, or beyond the last`)),
    ...waiting.map((event) => found(`${event} is not in it`)),
  ];
};

/** What is parked has an event. */
export const parkedHasEvent: Rule = ({ feed }) =>
  (feed?.withoutEvent ?? []).map((parkedId) => ({ subject: `parked ${parkedId}`, detail: 'has no event' }));
