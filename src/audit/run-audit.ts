/** Audits sales of a system that may be in motion: only what stays wrong is wrong. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Client } from '@temporalio/client';
import type { ProviderPayment } from '../domain/payment.ts';
import { parseOrderNo } from '../domain/order.ts';
import type { PaymentProvider } from '../payments/provider.ts';
import { readMysqlSale, readRedisSale } from '../stores/audit-reads.ts';
import type { Stores } from '../stores/open.ts';
import { auditSale, type Finding, type SaleSnapshot } from './audit-sale.ts';

/** A step between two stores, or a notice on its way, is done within seconds; what is not by then is a finding. */
const SETTLE_MS = 15_000;
const LOOK_EVERY_MS = 500;

export interface AuditDeps {
  stores: Pick<Stores, 'redis' | 'pool' | 'saleStock' | 'sales'>;
  client: Client;
  provider: Pick<PaymentProvider, 'listPayments'>;
}

export interface SaleAudit {
  saleId: string;
  orders: number;
  payments: number;
  findings: Finding[];
}

/** Looks again until the sale is clean or the time to settle is over. */
export async function runAudit(
  deps: AuditDeps,
  saleId: string,
  accepted: readonly string[],
): Promise<SaleAudit> {
  const untilMs = Date.now() + SETTLE_MS;
  for (;;) {
    const sale = await readSale(deps, saleId, accepted);
    const findings = auditSale(sale);
    if (findings.length === 0 || Date.now() >= untilMs) {
      return { saleId, orders: sale.mysql.orders.length, payments: sale.taken.length, findings };
    }
    await delay(LOOK_EVERY_MS);
  }
}

/** One look, which may catch the system between two steps. */
export async function readSale(
  deps: AuditDeps,
  saleId: string,
  accepted: readonly string[],
): Promise<SaleSnapshot> {
  const { redis, pool, saleStock, sales } = deps.stores;
  const [view, mysqlStock, inRedis, inMysql, running, taken] = await Promise.all([
    saleStock.read(saleId),
    sales.readStock(saleId),
    readRedisSale(redis, saleId),
    readMysqlSale(pool, saleId),
    listRunning(deps.client, saleId),
    listTaken(deps.provider, saleId),
  ]);
  return {
    saleId,
    redisStock: view?.skus ?? [],
    mysqlStock,
    redis: inRedis,
    mysql: inMysql,
    running,
    taken,
    accepted,
  };
}

async function listRunning(client: Client, saleId: string): Promise<Set<string>> {
  const running = new Set<string>();
  const query = `SaleId = "${saleId}" AND ExecutionStatus = "Running"`;
  for await (const { workflowId } of client.workflow.list({ query })) running.add(workflowId);
  return running;
}

async function listTaken(provider: AuditDeps['provider'], saleId: string): Promise<ProviderPayment[]> {
  const taken: ProviderPayment[] = [];
  for await (const payment of provider.listPayments()) {
    if (parseOrderNo(payment.orderNo)?.saleId === saleId) taken.push(payment);
  }
  return taken;
}
