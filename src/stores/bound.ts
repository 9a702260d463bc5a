/** The stores of a process: one module a noun, bound to its pool or its client. */

import * as redisSetup from '../doctor/setup.redis.ts';
import * as mysqlSetup from '../doctor/setup.sql.ts';
import * as eventConsumers from '../events/consumers.sql.ts';
import * as eventRows from '../events/events.sql.ts';
import * as feedMarks from '../events/marks.redis.ts';
import * as calledOffMoney from '../money/called-off.sql.ts';
import * as returnedUnits from '../money/give-back-walk.sql.ts';
import * as inbox from '../money/inbox.sql.ts';
import * as refunds from '../money/refunds.sql.ts';
import * as refusals from '../money/refusals.sql.ts';
import { listUnclear } from '../money/reversal-rows.sql.ts';
import {
  bookGiveBacks,
  readGiveBacks,
  readReversalTotals,
  recordReversals,
  returnStock,
} from '../money/reversals.sql.ts';
import { listRefunds, readRefundsOf } from '../money/rows.sql.ts';
import * as paymentSessions from '../money/sessions.sql.ts';
import * as unmatchedPayments from '../money/unmatched.sql.ts';
import type { Pool } from '../mysql/connection.ts';
import * as calledOffOrders from '../orders/called-off.sql.ts';
import * as orderClaims from '../orders/claims.sql.ts';
import * as deadlines from '../orders/deadlines.sql.ts';
import * as endings from '../orders/endings.sql.ts';
import * as orders from '../orders/orders.sql.ts';
import { readDoubtLeftMs, recordDoubt } from '../orders/rows.sql.ts';
import * as staffOrders from '../orders/staff-orders.sql.ts';
import * as storedOrders from '../orders/store.sql.ts';
import * as userOrders from '../orders/user-orders.sql.ts';
import * as auditLog from '../parked/audit-log.sql.ts';
import { noteFailure } from '../parked/parked.sql.ts';
import * as parkedWork from '../parked/work.sql.ts';
import * as deliveries from '../push/deliveries.sql.ts';
import * as endpoints from '../push/endpoints.sql.ts';
import * as replays from '../push/replays.sql.ts';
import * as comparedBook from '../reconcile/compared-book.sql.ts';
import * as cursors from '../reconcile/cursors.sql.ts';
import * as driftBoard from '../reconcile/drift-board.redis.ts';
import * as holds from '../reconcile/holds.redis.ts';
import * as saleMends from '../reconcile/mends.redis.ts';
import * as orderBooks from '../reconcile/order-books.sql.ts';
import * as persons from '../reconcile/persons.sql.ts';
import * as saleRebuild from '../reconcile/rebuild.redis.ts';
import * as rebuilds from '../reconcile/rebuild.sql.ts';
import * as repairs from '../reconcile/repairs.sql.ts';
import * as forgetting from '../reconcile/retention.redis.ts';
import * as retention from '../reconcile/retention.sql.ts';
import * as saleBooks from '../reconcile/sale-books.sql.ts';
import * as temporalNamespaces from '../reconcile/temporal-namespaces.sql.ts';
import type { RedisClient } from '../redis/connection.ts';
import * as callingOffs from '../sales/calling-off.sql.ts';
import * as saleChanges from '../sales/changes.sql.ts';
import * as liveFigures from '../sales/figures.redis.ts';
import * as saleFigures from '../sales/figures.sql.ts';
import * as saleNews from '../sales/news.sql.ts';
import * as sales from '../sales/sales.sql.ts';
import * as saleStock from '../sales/stock.redis.ts';
import * as apiNotes from '../status/api-notes.redis.ts';
import * as redisStatus from '../status/status.redis.ts';
import * as mysqlStatus from '../status/status.sql.ts';

export type MysqlStores = ReturnType<typeof mysqlStores>;

export function mysqlStores(pool: Pool) {
  return {
    orders: bind(pool, { ...orders, ...storedOrders }),
    saleChanges: bind(pool, saleChanges),
    orderClaims: bind(pool, orderClaims),
    callingOffs: bind(pool, { ...callingOffs, ...calledOffOrders, ...calledOffMoney }),
    endings: bind(pool, endings),
    deadlines: bind(pool, { extend: deadlines.extend, announceExpiring: deadlines.announceExpiring }),
    projectionDoubts: bind(pool, { readLeftMs: readDoubtLeftMs, record: recordDoubt }),
    payments: bind(pool, { ...inbox, readReversalTotals }),
    paymentSessions: bind(pool, paymentSessions),
    unmatchedPayments: bind(pool, unmatchedPayments),
    refunds: bind(pool, {
      requestByOrder: refunds.requestByOrder,
      request: refunds.request,
      withdraw: refunds.withdraw,
      read: refunds.read,
      recordRefusal: refusals.recordRefusal,
      forgetRefusal: refusals.forgetRefusal,
      park: refunds.park,
      unpark: refunds.unpark,
      readRefundsOf,
      listRefunds,
      listUnclear,
      recordReversals,
      bookGiveBacks,
      readGiveBacks,
      returnStock,
    }),
    refundClaims: bind(pool, {
      take: refunds.takeDue,
      complete: refunds.completeDue,
      release: refunds.releaseDue,
      listOpen: refunds.listOpen,
      requeue: refunds.requeue,
    }),
    parkedWork: bind(pool, { ...parkedWork, noteFailure }),
    auditLog: bind(pool, auditLog),
    endpoints: bind(pool, endpoints),
    deliveries: bind(pool, deliveries),
    replays: bind(pool, replays),
    sales: bind(pool, sales),
    eventRows: bind(pool, eventRows),
    eventConsumers: bind(pool, eventConsumers),
    saleNews: bind(pool, saleNews),
    saleFigures: bind(pool, saleFigures),
    cursors: bind(pool, cursors),
    comparedBook: bind(pool, comparedBook),
    repairs: bind(pool, repairs),
    retention: bind(pool, retention),
    returnedUnits: bind(pool, returnedUnits),
    persons: bind(pool, persons),
    temporalNamespaces: bind(pool, temporalNamespaces),
    saleEpochs: {
      listWatched: bindOne(pool, rebuilds.listWatched),
      readLife: bindOne(pool, rebuilds.readLife),
      listRebuilt: bindOne(pool, rebuilds.listRebuilt),
      request: bindOne(pool, rebuilds.request),
      withLock: bindOne(pool, rebuilds.withLock),
      // These run on the connection of the lock.
      announce: rebuilds.announce,
      advance: rebuilds.advance,
      finish: rebuilds.finish,
    },
    saleBooks: {
      read: bindOne(pool, saleBooks.read),
      whileOpen: bindOne(pool, saleBooks.whileOpen),
      listOrdered: bindOne(pool, saleBooks.listOrdered),
      correctCounters: bindOne(pool, saleBooks.correctCounters),
    },
    orderBooks: bind(pool, orderBooks),
    mysqlStatus: bind(pool, mysqlStatus),
    mysqlSetup: bind(pool, mysqlSetup),
    staffOrders: bind(pool, staffOrders),
    userOrders: bind(pool, userOrders),
    readSaleSnapshot: rebuilds.readSaleSnapshot,
  };
}

export type RedisStores = ReturnType<typeof redisStores>;

export function redisStores(redis: RedisClient) {
  return {
    holds: bind(redis, holds),
    forgetting: bind(redis, forgetting),
    saleRebuild: bind(redis, saleRebuild),
    saleMends: bind(redis, saleMends),
    driftBoard: bind(redis, driftBoard),
    feedMarks: bind(redis, feedMarks),
    saleStock: bind(redis, saleStock),
    liveFigures: bind(redis, liveFigures),
    redisStatus: bind(redis, redisStatus),
    apiNotes: bind(redis, apiNotes),
    redisSetup: bind(redis, redisSetup),
  };
}

type Takes<C> = (connection: C, ...others: never[]) => unknown;

/** Those of a module that take this connection. One that takes another, say a transaction's, is left out. */
type Bound<C, M> = {
  [K in keyof M as M[K] extends Takes<C> ? K : never]: M[K] extends (
    connection: C,
    ...others: infer Others
  ) => infer Result
    ? (...others: Others) => Result
    : never;
};

function bind<C, M extends object>(connection: C, module: M): Bound<C, M>;
function bind(connection: unknown, module: object): object {
  const functions = Object.entries(module).filter(([, member]) => typeof member === 'function');
  return Object.fromEntries(functions.map(([name, fn]) => [name, fn.bind(undefined, connection)]));
}

/** Keeps what a generic function is generic in, which the types of a bound module lose. */
function bindOne<Others extends unknown[], Result>(
  pool: Pool,
  fn: (pool: Pool, ...others: Others) => Result,
): (...others: Others) => Result {
  return fn.bind(undefined, pool);
}
