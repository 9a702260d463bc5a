/** Opens all stores of a process over one Redis client and one MySQL pool. */

import type { Logger } from 'pino';
import { DEFAULT_DEPLOYMENT_NAME } from '../domain/limits.ts';
import { bind } from './bind.ts';
import { createCaughtUpOrders } from './caught-up-orders.ts';
import { createDeploymentStores } from './deployment.ts';
import { createMysqlPool, type Pool } from './mysql/connection.ts';
import { createEventConsumers } from './mysql/events/event-consumers.ts';
import { createEventDispatch } from './mysql/events/event-dispatch.ts';
import { createEventRows } from './mysql/events/event-rows.ts';
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
import { createParkedWork } from './mysql/ops/parked-work.ts';
import { createEndings } from './mysql/orders/endings.ts';
import { createOrderClaims } from './mysql/orders/order-claims.ts';
import { createOrders } from './mysql/orders/orders.ts';
import { createProjectionDoubts } from './mysql/orders/projection-doubts.ts';
import { createStaffOrders } from './mysql/orders/staff-orders.ts';
import { createUserOrders } from './mysql/orders/user-orders.ts';
import { createDeliveryClaims } from './mysql/push/delivery-claims.ts';
import { createDeliveryList } from './mysql/push/delivery-list.ts';
import { createEndpointFeed } from './mysql/push/endpoint-feed.ts';
import { createEndpointHealth } from './mysql/push/endpoint-health.ts';
import { createEndpoints } from './mysql/push/endpoints.ts';
import { createReplays } from './mysql/push/replays.ts';
import { createSaleEpochs } from './mysql/rebuild/sale-epochs.ts';
import { readSaleSnapshot } from './mysql/rebuild/sale-snapshot.ts';
import { createSales } from './mysql/sales.ts';
import { createSaleChanges } from './mysql/sales/sale-changes.ts';
import { createSaleNews } from './mysql/sales/sale-news.ts';
import { createComparedBook } from './mysql/upkeep/compared-book.ts';
import { createOrderBooks } from './mysql/upkeep/order-books.ts';
import { createPersons } from './mysql/upkeep/persons.ts';
import { createPlaces } from './mysql/upkeep/places.ts';
import { createRepairs } from './mysql/upkeep/repairs.ts';
import { createRetention } from './mysql/upkeep/retention.ts';
import { createSaleBooks } from './mysql/upkeep/sale-books.ts';
import { createTemporalNamespaces } from './mysql/upkeep/temporal-namespaces.ts';
import { assertNoEviction, connectRedis } from './redis/connection.ts';
import { createDriftBoard } from './redis/drift-board.ts';
import { createEngineBudget } from './redis/engine-budget.ts';
import { createFeedMarks } from './redis/feed-marks.ts';
import { createForgetting } from './redis/forgetting.ts';
import { createHolds } from './redis/holds.ts';
import { createPaymentAttempts } from './redis/payment-attempts.ts';
import { createProviderPace } from './redis/provider-pace.ts';
import { createReservations } from './redis/reservations.ts';
import { createSaleMends } from './redis/sale-mends.ts';
import { createSaleRebuild } from './redis/sale-rebuild.ts';
import { createSaleStock } from './redis/sale-stock.ts';

export interface StoreConfig {
  REDIS_URL: readonly string[];
  REDIS_KEY_PREFIX?: string | undefined;
  MYSQL_URL: string;
  DEPLOYMENT_NAME?: string | undefined;
  /** Orders and signals in flight in Temporal, over all processes. */
  ENGINE_BUDGET: number;
  /** Orders that MySQL stores per second, over all workers. */
  MYSQL_STORES_PER_SECOND: number;
}

export type Stores = Awaited<ReturnType<typeof openStores>>;

/**
 * @throws when Redis is unreachable or might evict keys; while MySQL is away, each of its statements fails
 */
export async function openStores(config: StoreConfig, log: Logger) {
  const keyPrefix = config.REDIS_KEY_PREFIX;
  const redis = await connectRedis(config.REDIS_URL, log, { keyPrefix });
  await assertNoEviction(redis);
  const pool = createMysqlPool(config.MYSQL_URL);
  const reservations = createReservations(redis, { storesPerSecond: config.MYSQL_STORES_PER_SECOND });
  const saleStock = createSaleStock(redis);
  const mysql = mysqlStores(pool);
  return {
    redis,
    pool,
    /** Whose stores these are. */
    deployment: createDeploymentStores({
      redis,
      pool,
      name: config.DEPLOYMENT_NAME ?? DEFAULT_DEPLOYMENT_NAME,
      log,
    }),
    /** Opens a separate connection, for reads that block. */
    connectBlocking: () => connectRedis(config.REDIS_URL, log, { keyPrefix, commandTimeoutMs: null }),
    reservations,
    holds: createHolds(redis),
    forgetting: createForgetting(redis),
    saleStock,
    paymentAttempts: createPaymentAttempts(redis),
    /** Counts the calls of all processes to the payment provider. */
    providerPace: (callsPerSecond: number) => createProviderPace(redis, callsPerSecond),
    budget: createEngineBudget(redis, config.ENGINE_BUDGET, log),
    saleRebuild: createSaleRebuild(redis),
    saleMends: createSaleMends(redis),
    driftBoard: createDriftBoard(redis),
    feedMarks: createFeedMarks(redis),
    ...mysql,
    orders: createCaughtUpOrders(mysql.orders, {
      reservations,
      saleStock,
      saleChanges: mysql.saleChanges,
      log,
    }),
    async close(): Promise<void> {
      redis.disconnect();
      await pool.end();
    },
  };
}

/** The stores in MySQL. */
export function mysqlStores(pool: Pool) {
  return {
    orders: createOrders(pool),
    saleChanges: createSaleChanges(pool),
    orderClaims: createOrderClaims(pool),
    endings: createEndings(pool),
    projectionDoubts: createProjectionDoubts(pool),
    payments: bind(pool, { ...inbox, readReversalTotals }),
    paymentSessions: bind(pool, paymentSessions),
    unmatchedPayments: bind(pool, unmatchedPayments),
    refunds: bind(pool, { ...refunds, ...refundRequests, ...giveBacks, recordReversals, readRefundsOf }),
    refundClaims: bind(pool, refundClaims),
    parkedWork: createParkedWork(pool),
    endpoints: createEndpoints(pool),
    endpointFeed: createEndpointFeed(pool),
    endpointHealth: createEndpointHealth(pool),
    deliveryClaims: createDeliveryClaims(pool),
    deliveryList: createDeliveryList(pool),
    replays: createReplays(pool),
    sales: createSales(pool),
    eventDispatch: createEventDispatch(pool),
    eventRows: createEventRows(pool),
    eventConsumers: createEventConsumers(pool),
    saleNews: createSaleNews(pool),
    places: createPlaces(pool),
    comparedBook: createComparedBook(pool),
    repairs: createRepairs(pool),
    retention: createRetention(pool),
    returnedUnits: bind(pool, returnedUnits),
    persons: createPersons(pool),
    temporalNamespaces: createTemporalNamespaces(pool),
    saleEpochs: createSaleEpochs(pool),
    saleBooks: createSaleBooks(pool),
    orderBooks: createOrderBooks(pool),
    staffOrders: createStaffOrders(pool),
    userOrders: createUserOrders(pool),
    readSaleSnapshot,
  };
}
