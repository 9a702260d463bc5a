/** The audit of one sale: checks that Redis, MySQL, Temporal, the provider and the accepted orders agree. */

import { changesAreInFeed, eventsKeepOrder, feedIsWhole, parkedHasEvent } from './event-rules.ts';
import {
  booksBalance,
  moneyWasKeptForSomething,
  refundsAreCovered,
  restockedIsReturned,
  returnedIsKnown,
  unwantedReversalsAreShown,
} from './money-back-rules.ts';
import {
  acceptedExist,
  historiesAreWhole,
  holdsMatchOrders,
  openOrdersHoldStock,
  openOrdersMove,
  ordersEndInTime,
  projectionIsTrue,
  totalsAreSums,
  unbegunOrdersEnd,
  workflowsHaveOrders,
} from './order-rules.ts';
import {
  collectedIsKnown,
  knownWasCollected,
  ordersShowTheirMoney,
  paidOrdersArePaidOnce,
  parkedMoneyIsShown,
  paymentsEndSomewhere,
} from './payment-rules.ts';
import type { Finding, Rule, SaleSnapshot } from './snapshot.ts';
import { ledgerAddsUp, limitsAreTrue, ordersAccountForStock, stockAddsUp } from './stock-rules.ts';

/** The rules by name, in the order in which findings are listed: stock, orders, money, limits, events. */
const RULES: Record<string, Rule> = {
  'stock adds up': stockAddsUp,
  'the ledger adds up': ledgerAddsUp,
  'orders account for the stock': ordersAccountForStock,
  'accepted orders exist': acceptedExist,
  'open orders move': openOrdersMove,
  'orders end in time': ordersEndInTime,
  'orders that never began end': unbegunOrdersEnd,
  'histories are whole': historiesAreWhole,
  'totals are the sums of their lines': totalsAreSums,
  'open orders hold stock': openOrdersHoldStock,
  'holds end as their orders': holdsMatchOrders,
  'the projection is true': projectionIsTrue,
  'workflows have orders': workflowsHaveOrders,
  'collected money is known': collectedIsKnown,
  'known money was collected': knownWasCollected,
  'payments end somewhere': paymentsEndSomewhere,
  'parked money is shown': parkedMoneyIsShown,
  'paid orders are paid once': paidOrdersArePaidOnce,
  'orders show their money': ordersShowTheirMoney,
  'what went back is known': returnedIsKnown,
  'money was kept for something': moneyWasKeptForSomething,
  'reversed money of a paid order is shown': unwantedReversalsAreShown,
  'refunds are covered': refundsAreCovered,
  'restocked units are returned': restockedIsReturned,
  'the books balance': booksBalance,
  'limits are true': limitsAreTrue,
  'no change without its event': changesAreInFeed,
  'events keep the order of versions': eventsKeepOrder,
  'the feed is whole': feedIsWhole,
  'what is parked has an event': parkedHasEvent,
};

export const RULE_NAMES = Object.keys(RULES);

export function auditSale(sale: SaleSnapshot): Finding[] {
  return Object.entries(RULES).flatMap(([rule, check]) =>
    check(sale).map((finding) => ({ rule, ...finding })),
  );
}
