/** The audit's rules about stock: each unit is counted once in each store, and held or sold for an order. */

import type { StockCount } from '../domain/sale.ts';
import { limitField } from '../stores/audit/redis-reads.ts';
import type { Rule, SaleSnapshot } from './snapshot.ts';

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
