/** An API without a relay and without a worker: everything that a test sees is the API's own doing. */

import type { AppDeps } from '../../src/api/app.ts';
import type { HttpBounds } from '../../src/api/http/http-server.ts';
import { createMysqlPool } from '../../src/mysql/connection.ts';
import type { WorkflowPresence } from '../../src/orders/store.sql.ts';
import { mysqlStores } from '../../src/stores/bound.ts';
import type { StoreConfig } from '../../src/stores/open.ts';
import { openCheckout, type Checkout } from '../support/checkout.ts';
import { openHttpApp, type HttpApp } from '../support/http-app.ts';
import { createNamespace } from '../support/workflows/temporal.ts';

export interface TestApi extends Checkout {
  /** A second app on the same stores, parts of it replaced. */
  withParts(overrides: Partial<AppDeps>, bounds?: Partial<HttpBounds>): Promise<HttpApp>;
  /** Stores an accepted order in MySQL and projects that, as a worker would. */
  store(orderNo: string, presence?: WorkflowPresence): Promise<void>;
  /** Redis forgets the order. */
  forget(orderNo: string): Promise<void>;
  countRows(table: string, orderNo: string): Promise<number>;
}

/** No worker is in it, and workflows have names of their own: the files that a process runs share it. */
let namespace: Promise<string> | undefined;

export async function openApi(config: Partial<StoreConfig> = {}): Promise<TestApi> {
  namespace ??= createNamespace();
  const checkout = await openCheckout({ stores: config, worker: 'none', namespace: await namespace });
  const { stores, engine } = checkout;
  return {
    ...checkout,
    withParts: (overrides, bounds = {}) => openHttpApp({ stores, engine, overrides, bounds }),
    async store(orderNo, presence = 'due') {
      const reserved = await stores.reservations.readOrder(orderNo);
      if (!reserved) throw new Error(`no order ${orderNo} in Redis`);
      const outcome = await stores.orders.storeOrder(reserved.order, presence);
      if (outcome?.kind !== 'stored') throw new Error(`order ${orderNo} was not stored`);
      await stores.reservations.project(orderNo, outcome.state);
    },
    async forget(orderNo) {
      const keys = await stores.redis.keys(`*:order:${orderNo}`);
      await stores.redis.del(...keys);
    },
    async countRows(table, orderNo) {
      const [rows] = await stores.pool.query('SELECT 1 FROM ?? WHERE order_no = ?', [table, orderNo]);
      return Array.isArray(rows) ? rows.length : 0;
    },
  };
}

/** MySQL's part of the app, at an address where no server listens. */
export async function openMysqlAway(): Promise<
  Pick<
    AppDeps,
    | 'sales'
    | 'orders'
    | 'userOrders'
    | 'payments'
    | 'paymentSessions'
    | 'refunds'
    | 'parkedWork'
    | 'auditLog'
    | 'saleEpochs'
    | 'pool'
  >
> {
  const pool = createMysqlPool('mysql://user@127.0.0.1:1/none');
  const { sales, orders, userOrders, payments, paymentSessions, refunds, parkedWork, auditLog, saleEpochs } =
    mysqlStores(pool);
  return {
    pool,
    sales,
    orders,
    userOrders,
    payments,
    paymentSessions,
    refunds,
    parkedWork,
    auditLog,
    saleEpochs,
  };
}
