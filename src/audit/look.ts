/** One look at the system: what all sales share is read once, and each sale by itself. */

import type { Client } from '@temporalio/client';
import type { CollectedPayment } from '../money/payment.ts';
import { parseOrderNo } from '../orders/order.ts';
import { readCollected } from '../providers/collected.ts';
import type { PaymentProvider } from '../providers/provider.ts';
import type { StockCount } from '../sales/sale.ts';
import type { Stores } from '../stores/open.ts';
import { ORDER_WORKFLOW, REFUND_WORKFLOW, TASK_QUEUE } from '../workflows/contract.ts';
import { readRedisSale } from './reads.redis.ts';
import { type AuditedFeed, readFeed, readStrayMoney, readMysqlSale } from './reads.sql.ts';

// The types of the audit: what its rules look at, and what they return.

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

export interface AuditDeps {
  stores: Pick<Stores, 'redis' | 'pool' | 'saleStock' | 'sales'>;
  client: Client;
  /** Of the orders and refunds; another deployment's may run in the same namespace. */
  taskQueue?: string;
  provider: Pick<PaymentProvider, 'listPayments' | 'listReversals'>;
}

/** A sale, with the orders that clients know as accepted, or the money that names no sale, and the feed. */
export type Subject = { kind: 'sale'; saleId: string; accepted: readonly string[] } | { kind: 'strays' };

/** Reads the subject once, perhaps between two steps of the system. */
export type Look = (subject: Subject) => Promise<SaleSnapshot>;

/** Reads what all sales share: the provider's whole book, and which workflows run. */
export async function beginLook(deps: AuditDeps): Promise<Look> {
  const [collected, running, refunding] = await Promise.all([
    groupBySale(readCollected(deps.provider), ({ orderNo }) => orderNo),
    groupBySale(listRunning(deps, ORDER_WORKFLOW), (orderNo) => orderNo),
    toSet(listRunning(deps, REFUND_WORKFLOW)),
  ]);

  async function readSale(saleId: string, accepted: readonly string[]): Promise<SaleSnapshot> {
    const { redis, pool, saleStock, sales } = deps.stores;
    const [view, isRedisCleaned, mysqlStock, inRedis, inMysql] = await Promise.all([
      saleStock.read(saleId),
      sales.isRedisCleaned(saleId),
      sales.readStock(saleId),
      readRedisSale(redis, saleId),
      readMysqlSale(pool, saleId),
    ]);
    return {
      saleId,
      redisStock: view?.skus ?? [],
      isRedisCleaned,
      mysqlStock,
      redis: inRedis,
      mysql: inMysql,
      running: new Set(running.get(saleId)),
      refunding,
      collected: collected.get(saleId) ?? [],
      accepted,
    };
  }

  async function readStrays(): Promise<SaleSnapshot> {
    const saleIds = new Set(await deps.stores.sales.listIds());
    const isStray = (saleId: string | undefined) => saleId === undefined || !saleIds.has(saleId);
    const { pool } = deps.stores;
    const [{ payments, ...parked }, feed] = await Promise.all([readStrayMoney(pool), readFeed(pool)]);
    const strays = payments.filter(({ orderNo }) => isStray(saleIdOf(orderNo)));
    return {
      saleId: '(no sale)',
      redisStock: [],
      isRedisCleaned: false,
      mysqlStock: [],
      redis: { epoch: 0, holds: [], outbox: [], limits: new Map() },
      mysql: {
        orders: [],
        events: new Map(),
        news: undefined,
        payments: strays,
        ...parked,
        callingOffs: { ended: [], excepted: new Set() },
        ledger: new Map(),
      },
      running: new Set(),
      refunding,
      collected: [...collected].flatMap(([saleId, ofSale]) => (isStray(saleId) ? ofSale : [])),
      accepted: [],
      feed,
    };
  }

  return (subject) => (subject.kind === 'sale' ? readSale(subject.saleId, subject.accepted) : readStrays());
}

const saleIdOf = (orderNo: string): string | undefined => parseOrderNo(orderNo)?.saleId;

/** By the id of the sale that the order number names; undefined: it names none. */
async function groupBySale<T>(
  all: AsyncIterable<T>,
  orderNoOf: (one: T) => string,
): Promise<Map<string | undefined, T[]>> {
  const groups = new Map<string | undefined, T[]>();
  for await (const one of all) {
    const saleId = saleIdOf(orderNoOf(one));
    const group = groups.get(saleId);
    if (group) group.push(one);
    else groups.set(saleId, [one]);
  }
  return groups;
}

/** The ids of running workflows. Those of refunds of stray payments belong to no sale. */
async function* listRunning(
  { client, taskQueue = TASK_QUEUE }: AuditDeps,
  workflowType: string,
): AsyncGenerator<string> {
  const query = `WorkflowType = "${workflowType}" AND TaskQueue = "${taskQueue}" AND ExecutionStatus = "Running"`;
  for await (const { workflowId } of client.workflow.list({ query })) yield workflowId;
}

async function toSet<T>(all: AsyncIterable<T>): Promise<Set<T>> {
  const set = new Set<T>();
  for await (const one of all) set.add(one);
  return set;
}
