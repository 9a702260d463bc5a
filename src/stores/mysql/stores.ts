/** The stores in MySQL: one module a noun, bound to a pool. */

import { bind } from '../bind.ts';
import type { Pool } from './connection.ts';
import * as eventConsumers from './events/event-consumers.ts';
import * as eventDispatch from './events/event-dispatch.ts';
import * as eventRows from './events/event-rows.ts';
import * as giveBacks from './money/give-backs.ts';
import * as inbox from './money/inbox.ts';
import * as paymentSessions from './money/payment-sessions.ts';
import * as refundClaims from './money/refund-claims.ts';
import * as refundRequests from './money/refund-requests.ts';
import { readRefundsOf } from './money/refund.ts';
import * as refunds from './money/refunds.ts';
import * as returnedUnits from './money/returned-units.ts';
import { readReversalTotals, recordReversals } from './money/reversals.ts';
import * as unmatchedPayments from './money/unmatched-payments.ts';
import * as parkedWork from './ops/parked-work.ts';
import * as endings from './orders/endings.ts';
import * as orderClaims from './orders/order-claims.ts';
import * as orders from './orders/orders.ts';
import { createProjectionDoubts } from './orders/projection-doubts.ts';
import * as staffOrders from './orders/staff-orders.ts';
import * as userOrders from './orders/user-orders.ts';
import * as deliveryClaims from './push/delivery-claims.ts';
import * as deliveryList from './push/delivery-list.ts';
import * as endpointFeed from './push/endpoint-feed.ts';
import * as endpointHealth from './push/endpoint-health.ts';
import * as endpoints from './push/endpoints.ts';
import * as replays from './push/replays.ts';
import { createSaleEpochs } from './rebuild/sale-epochs.ts';
import { readSaleSnapshot } from './rebuild/sale-snapshot.ts';
import { noteFailure } from './rows/parked.ts';
import * as sales from './sales.ts';
import * as saleChanges from './sales/sale-changes.ts';
import * as saleNews from './sales/sale-news.ts';
import * as comparedBook from './upkeep/compared-book.ts';
import * as orderBooks from './upkeep/order-books.ts';
import * as persons from './upkeep/persons.ts';
import * as places from './upkeep/places.ts';
import * as repairs from './upkeep/repairs.ts';
import * as retention from './upkeep/retention.ts';
import { createSaleBooks } from './upkeep/sale-books.ts';
import * as temporalNamespaces from './upkeep/temporal-namespaces.ts';

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
    endpointHealth: bind(pool, endpointHealth),
    deliveryClaims: bind(pool, deliveryClaims),
    deliveryList: bind(pool, deliveryList),
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
