/** The stores in MySQL: one module a noun, bound to a pool. */

import { bind } from './bind.ts';
import type { Pool } from './mysql/connection.ts';
import * as eventConsumers from './mysql/events/event-consumers.ts';
import * as eventDispatch from './mysql/events/event-dispatch.ts';
import * as eventRows from './mysql/events/event-rows.ts';
import * as giveBacks from './mysql/money/give-backs.ts';
import * as inbox from './mysql/money/inbox.ts';
import * as paymentSessions from './mysql/money/payment-sessions.ts';
import * as refundClaims from './mysql/money/refund-claims.ts';
import * as refundRequests from './mysql/money/refund-requests.ts';
import { readRefundsOf } from './mysql/money/refund.ts';
import * as refunds from './mysql/money/refunds.ts';
import * as returnedUnits from './mysql/money/returned-units.ts';
import { readReversalTotals, recordReversals } from './mysql/money/reversals.ts';
import * as unmatchedPayments from './mysql/money/unmatched-payments.ts';
import * as parkedWork from './mysql/ops/parked-work.ts';
import * as endings from './mysql/orders/endings.ts';
import * as orderClaims from './mysql/orders/order-claims.ts';
import * as orders from './mysql/orders/orders.ts';
import { createProjectionDoubts } from './mysql/orders/projection-doubts.ts';
import * as staffOrders from './mysql/orders/staff-orders.ts';
import * as userOrders from './mysql/orders/user-orders.ts';
import * as deliveries from './mysql/push/deliveries.ts';
import * as endpointFeed from './mysql/push/endpoint-feed.ts';
import * as endpoints from './mysql/push/endpoints.ts';
import * as replays from './mysql/push/replays.ts';
import { createSaleEpochs, readSaleSnapshot } from './mysql/rebuild/rebuild.ts';
import { noteFailure } from './mysql/rows/parked.ts';
import * as saleChanges from './mysql/sales/sale-changes.ts';
import * as saleNews from './mysql/sales/sale-news.ts';
import * as sales from './mysql/sales/sales.ts';
import * as comparedBook from './mysql/upkeep/compared-book.ts';
import * as orderBooks from './mysql/upkeep/order-books.ts';
import * as persons from './mysql/upkeep/persons.ts';
import * as places from './mysql/upkeep/places.ts';
import * as repairs from './mysql/upkeep/repairs.ts';
import * as retention from './mysql/upkeep/retention.ts';
import { createSaleBooks } from './mysql/upkeep/sale-books.ts';
import * as temporalNamespaces from './mysql/upkeep/temporal-namespaces.ts';

export type MysqlStores = ReturnType<typeof mysqlStores>;

export function mysqlStores(pool: Pool) {
  return {
    orders: bind(pool, orders),
    saleChanges: bind(pool, saleChanges),
    orderClaims: bind(pool, orderClaims),
    endings: bind(pool, endings),
    projectionDoubts: createProjectionDoubts(pool),
    payments: bind(pool, { ...inbox, readReversalTotals }),
    paymentSessions: bind(pool, paymentSessions),
    unmatchedPayments: bind(pool, unmatchedPayments),
    refunds: bind(pool, { ...refunds, ...refundRequests, ...giveBacks, recordReversals, readRefundsOf }),
    refundClaims: bind(pool, refundClaims),
    parkedWork: bind(pool, { ...parkedWork, noteFailure }),
    endpoints: bind(pool, endpoints),
    endpointFeed: bind(pool, endpointFeed),
    deliveries: bind(pool, deliveries),
    replays: bind(pool, replays),
    sales: bind(pool, sales),
    eventDispatch: bind(pool, eventDispatch),
    eventRows: bind(pool, eventRows),
    eventConsumers: bind(pool, eventConsumers),
    saleNews: bind(pool, saleNews),
    places: bind(pool, places),
    comparedBook: bind(pool, comparedBook),
    repairs: bind(pool, repairs),
    retention: bind(pool, retention),
    returnedUnits: bind(pool, returnedUnits),
    persons: bind(pool, persons),
    temporalNamespaces: bind(pool, temporalNamespaces),
    saleEpochs: createSaleEpochs(pool),
    saleBooks: createSaleBooks(pool),
    orderBooks: bind(pool, orderBooks),
    staffOrders: bind(pool, staffOrders),
    userOrders: bind(pool, userOrders),
    readSaleSnapshot,
  };
}
