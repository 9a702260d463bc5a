/** Opens all stores of a process over one Redis client and one MySQL pool. */

import type { Logger } from 'pino';
import { DEFAULT_DEPLOYMENT_NAME } from '../domain/limits.ts';
import { createCaughtUpOrders } from './caught-up-orders.ts';
import { createDeploymentStores } from './deployment.ts';
import { createMysqlPool } from './mysql/connection.ts';
import { createEventConsumers } from './mysql/events/event-consumers.ts';
import { createEventDispatch } from './mysql/events/event-dispatch.ts';
import { createEventRows } from './mysql/events/event-rows.ts';
import { createPayments } from './mysql/money/inbox.ts';
import { createPaymentSessions } from './mysql/money/payment-sessions.ts';
import { createRefundClaims } from './mysql/money/refund-claims.ts';
import { createRefunds } from './mysql/money/refunds.ts';
import { createUnmatchedPayments } from './mysql/money/unmatched-payments.ts';
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
import { createReturnedUnits } from './mysql/upkeep/returned-units.ts';
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
  const saleChanges = createSaleChanges(pool);
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
    orders: createCaughtUpOrders(createOrders(pool), { reservations, saleStock, saleChanges, log }),
    orderClaims: createOrderClaims(pool),
    endings: createEndings(pool),
    projectionDoubts: createProjectionDoubts(pool),
    payments: createPayments(pool),
    paymentSessions: createPaymentSessions(pool),
    unmatchedPayments: createUnmatchedPayments(pool),
    refunds: createRefunds(pool),
    refundClaims: createRefundClaims(pool),
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
    saleChanges,
    saleNews: createSaleNews(pool),
    places: createPlaces(pool),
    comparedBook: createComparedBook(pool),
    repairs: createRepairs(pool),
    retention: createRetention(pool),
    returnedUnits: createReturnedUnits(pool),
    persons: createPersons(pool),
    temporalNamespaces: createTemporalNamespaces(pool),
    saleEpochs: createSaleEpochs(pool),
    readSaleSnapshot,
    saleBooks: createSaleBooks(pool),
    orderBooks: createOrderBooks(pool),
    staffOrders: createStaffOrders(pool),
    userOrders: createUserOrders(pool),
    async close(): Promise<void> {
      redis.disconnect();
      await pool.end();
    },
  };
}
