/** Audits sales of a running system: reads a sale again and again, and reports only findings that persist. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import { parseOrderNo } from '../domain/order.ts';
import type { CollectedPayment } from '../domain/payment.ts';
import { readCollected } from '../payments/collected.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import { readStrayMoney } from '../stores/audit/money-reads.ts';
import { readMysqlSale } from '../stores/audit/mysql-reads.ts';
import { readRedisSale } from '../stores/audit/redis-reads.ts';
import type { Stores } from '../stores/open.ts';
import { ORDER_WORKFLOW, REFUND_WORKFLOW } from '../workflows/contract.ts';
import { auditSale } from './audit-sale.ts';
import type { Finding, SaleSnapshot } from './snapshot.ts';

/**
 * How long a finding may take to disappear. A step between two stores, or a notice on its way, takes seconds.
 */
const SETTLE_MS = 15_000;
const LOOK_EVERY_MS = 500;

export interface AuditDeps {
  stores: Pick<Stores, 'redis' | 'pool' | 'saleStock' | 'sales'>;
  client: Client;
  provider: Pick<PaymentProvider, 'listPayments' | 'listReversals'>;
}

export interface SaleAudit {
  saleId: string;
  orders: number;
  payments: number;
  findings: Finding[];
}

/**
 * Audits the sale repeatedly, until it is clean or the time to settle is over.
 * @param settleMs may be shorter where the sale is known to be at rest
 */
export async function runAudit(
  deps: AuditDeps,
  saleId: string,
  accepted: readonly string[],
  settleMs = SETTLE_MS,
): Promise<SaleAudit> {
  return auditUntilClean(() => readSale(deps, saleId, accepted), settleMs);
}

/** Audits the payments that name no sale of ours. They too must be known, and be parked or go back. */
export async function auditStrayMoney(deps: AuditDeps, settleMs = SETTLE_MS): Promise<SaleAudit> {
  return auditUntilClean(() => readStrays(deps), settleMs);
}

async function auditUntilClean(read: () => Promise<SaleSnapshot>, settleMs: number): Promise<SaleAudit> {
  const untilMs = Date.now() + settleMs;
  for (;;) {
    const sale = await read();
    const findings = auditSale(sale);
    if (findings.length === 0 || Date.now() >= untilMs) {
      const { saleId, mysql, collected } = sale;
      return { saleId, orders: mysql.orders.length, payments: collected.length, findings };
    }
    await delay(LOOK_EVERY_MS);
  }
}

/** Reads the sale once, perhaps between two steps of the system. */
export async function readSale(
  deps: AuditDeps,
  saleId: string,
  accepted: readonly string[],
): Promise<SaleSnapshot> {
  const { redis, pool, saleStock, sales } = deps.stores;
  const [view, mysqlStock, inRedis, inMysql, running, refunding, collected] = await Promise.all([
    saleStock.read(saleId),
    sales.readStock(saleId),
    readRedisSale(redis, saleId),
    readMysqlSale(pool, saleId),
    listRunning(deps.client, `WorkflowType = "${ORDER_WORKFLOW}" AND SaleId = "${saleId}"`),
    listRefunding(deps.client),
    listCollected(deps.provider, (orderNo) => saleIdOf(orderNo) === saleId),
  ]);
  return {
    saleId,
    redisStock: view?.skus ?? [],
    mysqlStock,
    redis: inRedis,
    mysql: inMysql,
    running,
    refunding,
    collected,
    accepted,
  };
}

async function readStrays(deps: AuditDeps): Promise<SaleSnapshot> {
  const saleIds = new Set(await deps.stores.sales.listIds());
  const isStray = (orderNo: string) => !saleIds.has(saleIdOf(orderNo) ?? '');
  const [{ payments, ...parked }, refunding, collected] = await Promise.all([
    readStrayMoney(deps.stores.pool),
    listRefunding(deps.client),
    listCollected(deps.provider, isStray),
  ]);
  const strays = payments.filter(({ orderNo }) => isStray(orderNo));
  return {
    saleId: '(no sale)',
    redisStock: [],
    mysqlStock: [],
    redis: { holds: [], outbox: [], limits: new Map() },
    mysql: { orders: [], events: new Map(), payments: strays, ...parked, ledger: new Map() },
    running: new Set(),
    refunding,
    collected,
    accepted: [],
  };
}

const saleIdOf = (orderNo: string): string | undefined => parseOrderNo(orderNo)?.saleId;

/**
 * Lists the refund workflows of all sales: few run at a time, and those of stray payments belong to no sale.
 */
const listRefunding = (client: Client) => listRunning(client, `WorkflowType = "${REFUND_WORKFLOW}"`);

async function listRunning(client: Client, which: string): Promise<Set<string>> {
  const running = new Set<string>();
  const query = `${which} AND ExecutionStatus = "Running"`;
  for await (const { workflowId } of client.workflow.list({ query })) running.add(workflowId);
  return running;
}

async function listCollected(
  provider: AuditDeps['provider'],
  isWanted: (orderNo: string) => boolean,
): Promise<CollectedPayment[]> {
  const collected: CollectedPayment[] = [];
  for await (const payment of readCollected(provider)) {
    if (isWanted(payment.orderNo)) collected.push(payment);
  }
  return collected;
}
