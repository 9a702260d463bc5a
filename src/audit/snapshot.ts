/** What the rules of the audit look at, and what they answer. */

import type { CollectedPayment } from '../domain/payment.ts';
import type { StockCount } from '../domain/sale.ts';
import type { readMysqlSale } from '../stores/audit/mysql-reads.ts';
import type { readRedisSale } from '../stores/audit/redis-reads.ts';

/** Everything that is known about a sale at one moment. */
export interface SaleSnapshot {
  saleId: string;
  redisStock: StockCount[];
  mysqlStock: StockCount[];
  redis: Awaited<ReturnType<typeof readRedisSale>>;
  mysql: Awaited<ReturnType<typeof readMysqlSale>>;
  /** Orders whose workflow runs. */
  running: ReadonlySet<string>;
  /** Ids of refund workflows that run; also those of other sales' payments. */
  refunding: ReadonlySet<string>;
  /** What the provider says it took for orders of this sale, and what of it went back. */
  collected: CollectedPayment[];
  /** Orders that shoppers were told are accepted, where somebody kept a list. */
  accepted: readonly string[];
}

export interface Finding {
  rule: string;
  /** The order, payment or SKU that it is about. */
  subject: string;
  detail: string;
}

/** One rule of the promise; it answers what breaks it. */
export type Rule = (sale: SaleSnapshot) => Omit<Finding, 'rule'>[];
