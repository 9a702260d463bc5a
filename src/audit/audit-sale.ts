/**
 * The audit of one sale: does what Redis, MySQL, Temporal, the provider and the shoppers say add up?
 * Each function is one rule of the promise; it answers what breaks it.
 */

import type { StockCount } from '../domain/sale.ts';
import { isFinal } from '../domain/order.ts';
import type { ProviderPayment } from '../domain/payment.ts';
import type { readMysqlSale, readRedisSale } from '../stores/audit-reads.ts';

/** Everything that is known about a sale at one moment. */
export interface SaleSnapshot {
  saleId: string;
  redisStock: StockCount[];
  mysqlStock: StockCount[];
  redis: Awaited<ReturnType<typeof readRedisSale>>;
  mysql: Awaited<ReturnType<typeof readMysqlSale>>;
  /** Orders whose workflow runs. */
  running: ReadonlySet<string>;
  /** What the provider says it took for orders of this sale. */
  taken: ProviderPayment[];
  /** Orders that shoppers were told are accepted, where somebody kept a list. */
  accepted: readonly string[];
}

export interface Finding {
  rule: string;
  /** The order, payment or SKU that it is about. */
  subject: string;
  detail: string;
}

type Rule = (sale: SaleSnapshot) => Omit<Finding, 'rule'>[];

/** In each store, total = available + held + sold; both agree, but for orders that are yet to be stored. */
const stockAddsUp: Rule = ({ redisStock, mysqlStock, redis, mysql }) => {
  const stored = new Set(mysql.orders.map(({ orderNo }) => orderNo));
  const toBeStored = redis.holds.filter(({ hold, orderNo }) => hold === 'held' && !stored.has(orderNo));
  const waiting = sumUnits(toBeStored, ({ sku }) => sku);
  return mysqlStock.flatMap((inMysql) => {
    const { sku } = inMysql;
    const inRedis = redisStock.find((count) => count.sku === sku);
    if (!inRedis) return [{ subject: sku, detail: 'Redis does not have it' }];
    const findings = [inRedis, inMysql].flatMap((count, i) =>
      count.total === count.available + count.held + count.sold &&
      Math.min(count.available, count.held, count.sold) >= 0
        ? []
        : [{ subject: sku, detail: `${i === 0 ? 'Redis' : 'MySQL'}: ${describeStock(count)}` }],
    );
    const heldInMysql = inMysql.held + (waiting.get(sku) ?? 0);
    const isAgreed =
      inRedis.total === inMysql.total && inRedis.sold === inMysql.sold && inRedis.held === heldInMysql;
    if (isAgreed) return findings;
    const detail = `Redis ${describeStock(inRedis)}; MySQL ${describeStock(inMysql)}, ${waiting.get(sku) ?? 0} yet to be stored`;
    return [...findings, { subject: sku, detail }];
  });
};

/** The counters are the sum of the ledger. */
const ledgerAddsUp: Rule = ({ mysqlStock, mysql }) =>
  mysqlStock.flatMap(({ sku, held, sold }) => {
    const booked = mysql.ledger.get(sku) ?? { held: 0, sold: 0 };
    if (booked.held === held && booked.sold === sold) return [];
    return [
      {
        subject: sku,
        detail: `counted ${held} held, ${sold} sold; booked ${booked.held} and ${booked.sold}`,
      },
    ];
  });

/** What a shopper was told is accepted is stored, or on its way. */
const acceptedExist: Rule = ({ accepted, mysql, redis, running }) => {
  const known = new Set([...mysql.orders.map(({ orderNo }) => orderNo), ...redis.outbox, ...running]);
  return accepted
    .filter((orderNo) => !known.has(orderNo))
    .map((subject) => ({ subject, detail: 'accepted, and neither stored, nor queued, nor running' }));
};

/** An open order has a workflow that runs, or a place in a queue. */
const openOrdersMove: Rule = ({ mysql, redis, running }) => {
  const moving = new Set([...running, ...redis.outbox]);
  return mysql.orders
    .filter(({ status, isDue, orderNo }) => !isFinal(status) && !isDue && !moving.has(orderNo))
    .map(({ orderNo, status }) => ({ subject: orderNo, detail: `${status}, and nobody works on it` }));
};

/** A hold ends as its order did; one whose order is not stored is queued or running. */
const holdsMatchOrders: Rule = ({ mysql, redis, running }) => {
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
const projectionIsTrue: Rule = ({ mysql, redis }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  return redis.holds.flatMap(({ orderNo, state }) => {
    const order = orders.get(orderNo);
    if (!order || (state.version === order.version && state.status === order.status)) return [];
    const detail = `shown ${state.status} (version ${state.version}), stored ${order.status} (${order.version})`;
    return [{ subject: orderNo, detail }];
  });
};

/** A running workflow has an order that has not ended. */
const workflowsHaveOrders: Rule = ({ mysql, redis, running }) => {
  const statuses = new Map(mysql.orders.map(({ orderNo, status }) => [orderNo, status]));
  const held = new Set(redis.holds.filter(({ hold }) => hold === 'held').map(({ orderNo }) => orderNo));
  return [...running]
    .filter((orderNo) => {
      const status = statuses.get(orderNo);
      return status === undefined ? !held.has(orderNo) : isFinal(status);
    })
    .map((subject) => ({ subject, detail: 'a workflow runs for an order that has ended or never was' }));
};

/** All the provider took is known, to the cent. */
const takenIsKnown: Rule = ({ taken, mysql }) => {
  const known = new Map(mysql.payments.map((payment) => [payment.providerPaymentId, payment]));
  return taken.flatMap(({ providerPaymentId, orderNo, amount, currency }) => {
    const payment = known.get(providerPaymentId);
    const subject = providerPaymentId;
    if (!payment)
      return [{ subject, detail: `${amount} ${currency} taken for ${orderNo}, and not known here` }];
    if (payment.amount === amount && payment.currency === currency && payment.orderNo === orderNo) return [];
    return [
      { subject, detail: `taken ${amount} ${currency}, recorded ${payment.amount} ${payment.currency}` },
    ];
  });
};

/** Money that was received paid an order, goes back, waits for a person, or is about to be acted upon. */
const paymentsEndSomewhere: Rule = ({ mysql }) => {
  const orders = new Map(mysql.orders.map((order) => [order.orderNo, order]));
  return mysql.payments.flatMap(({ providerPaymentId: subject, orderNo, status }) => {
    const order = orders.get(orderNo);
    if (status === 'applied' && order?.status !== 'paid') {
      return [{ subject, detail: `applied to ${orderNo}, which is ${order?.status ?? 'not stored'}` }];
    }
    if (status === 'received' && (!order || isFinal(order.status))) {
      return [{ subject, detail: `received for ${orderNo}, which is ${order?.status ?? 'not stored'}` }];
    }
    return [];
  });
};

/** A paid order has one payment, of its total. */
const paidOrdersArePaidOnce: Rule = ({ mysql }) =>
  mysql.orders
    .filter(({ status }) => status === 'paid')
    .flatMap(({ orderNo: subject, total, currency }) => {
      const applied = mysql.payments.filter(
        (payment) => payment.orderNo === subject && payment.status === 'applied',
      );
      const isRight =
        applied.length === 1 && applied[0]?.amount === total && applied[0].currency === currency;
      return isRight
        ? []
        : [{ subject, detail: `paid, with ${applied.length} payments applied to ${total} ${currency}` }];
    });

/** What counts against a user's limit is what the user holds or owns. */
const limitsAreTrue: Rule = ({ mysql, redis }) => {
  const stored = new Set(mysql.orders.map(({ orderNo }) => orderNo));
  const theirs = [
    ...mysql.orders.filter(({ status }) => status === 'awaiting_payment' || status === 'paid'),
    ...redis.holds.filter(({ hold, orderNo }) => hold === 'held' && !stored.has(orderNo)),
  ];
  const owned = sumUnits(theirs, ({ sku }, { userId }) => `${sku}:${userId}`);
  return [...new Set([...owned.keys(), ...redis.limits.keys()])].flatMap((subject) => {
    const [has, counted] = [owned.get(subject) ?? 0, redis.limits.get(subject) ?? 0];
    return has === counted ? [] : [{ subject, detail: `holds or owns ${has}, counted ${counted}` }];
  });
};

/** In the order of the promise. */
const RULES: Record<string, Rule> = {
  'stock adds up': stockAddsUp,
  'the ledger adds up': ledgerAddsUp,
  'accepted orders exist': acceptedExist,
  'open orders move': openOrdersMove,
  'holds end as their orders': holdsMatchOrders,
  'the projection is true': projectionIsTrue,
  'workflows have orders': workflowsHaveOrders,
  'what the provider took is known': takenIsKnown,
  'payments end somewhere': paymentsEndSomewhere,
  'paid orders are paid once': paidOrdersArePaidOnce,
  'limits are true': limitsAreTrue,
};

export const RULE_NAMES = Object.keys(RULES);

export function auditSale(sale: SaleSnapshot): Finding[] {
  return Object.entries(RULES).flatMap(([rule, check]) =>
    check(sale).map((finding) => ({ rule, ...finding })),
  );
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
