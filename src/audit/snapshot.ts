/** The types of the audit: what its rules look at, and what they return. */

import type { CollectedPayment } from '../domain/payment.ts';
import type { StockCount } from '../domain/sale.ts';
import type { AuditedFeed } from '../stores/audit/feed-reads.ts';
import type { readMysqlSale } from '../stores/audit/mysql-reads.ts';
import type { readRedisSale } from '../stores/audit/redis-reads.ts';

/** A sale at one moment, as each store, Temporal and the provider have it. */
export interface SaleSnapshot {
  saleId: string;
  redisStock: StockCount[];
  /** The sale is long over, and its data in Redis were removed for good. */
  isRedisCleaned: boolean;
  mysqlStock: StockCount[];
  redis: Awaited<ReturnType<typeof readRedisSale>>;
  mysql: Awaited<ReturnType<typeof readMysqlSale>>;
  /** Orders whose workflow runs. */
  running: ReadonlySet<string>;
  /** Ids of running refund workflows, including those of other sales' payments. */
  refunding: ReadonlySet<string>;
  /** The payments that the provider collected for orders of this sale, with what of them went back. */
  collected: CollectedPayment[];
  /** The feed of all events, looked at with the money that names no sale; absent for a sale. */
  feed?: AuditedFeed;
  /** Orders that were accepted by an answer to a client, where a list of them was kept; empty otherwise. */
  accepted: readonly string[];
}

export interface Finding {
  rule: string;
  /** The order, payment or SKU that it is about. */
  subject: string;
  detail: string;
}

/** One rule; it returns what breaks it. */
export type Rule = (sale: SaleSnapshot) => Omit<Finding, 'rule'>[];
