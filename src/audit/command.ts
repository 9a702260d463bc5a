/** The audit as a command: audits every sale, and prints a table and each discrepancy by its rule. */

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { ConfigError, type AuditConfig } from '../config.ts';
import { WrongDeploymentError } from '../deployment.ts';
import { TOOL_WAITS } from '../limits.ts';
import { redactCredentials } from '../log.ts';
import { parseOrderNo } from '../orders/order.ts';
import { openProvider } from '../providers/open.ts';
import { createPaced } from '../providers/pacing.ts';
import { openStores } from '../stores/open.ts';
import { describeFailure } from '../tool.ts';
import type { AuditDeps, Subject } from './look.ts';
import { RULE_NAMES, auditAll, type SaleAudit } from './run-audit.ts';

/** What the audit was given cannot be audited. */
class AuditRefusedError extends Error {
  override name = 'AuditRefusedError';
}

/** Settings that bound the start of orders. The audit only reads, so their values do not matter. */
const READS_ONLY = { ENGINE_BUDGET: 1, MYSQL_STORES_PER_SECOND: 1 };

/**
 * @param args `--accepted FILE`: a list of orders that were accepted by an answer to a client, an orderNo a
 *   line. Those that were lost with the data of a store are named, and are no discrepancy
 * @returns the exit code: 0 without discrepancies, 1 with some, 2 where it could not be told
 */
export async function auditCommand(loadConfig: () => AuditConfig, args: readonly string[]): Promise<number> {
  try {
    const { values } = parseArgs({ args: [...args], options: { accepted: { type: 'string' } } });
    return printAudits(await auditServers(loadConfig(), values.accepted));
  } catch (error) {
    console.error(redactCredentials(describeAuditFailure(error)));
    return 2;
  }
}

/** Why there is no audit, as a sentence. */
export function describeAuditFailure(error: unknown): string {
  const isNamed = error instanceof ConfigError || error instanceof AuditRefusedError;
  const why = isNamed || error instanceof WrongDeploymentError ? error.message : describeFailure(error);
  return `The audit was not carried out. ${why}`;
}

function printAudits(audits: readonly SaleAudit[]): number {
  console.table(
    audits.map(({ saleId, orders, payments, paidWithoutWorkflow, lost, findings }) => ({
      sale: saleId,
      orders,
      payments,
      'paid without a workflow': paidWithoutWorkflow,
      lost: lost.length,
      findings: findings.length,
    })),
  );
  for (const { saleId, lost } of audits)
    for (const orderNo of lost)
      console.log(`${saleId}: lost: ${orderNo}: accepted, and no store knows it any more`);
  const findings = audits.flatMap((audit) =>
    audit.findings.map((finding) => ({ sale: audit.saleId, ...finding })),
  );
  for (const { sale, rule, subject, detail } of findings) {
    console.log(`${sale}: ${rule}: ${subject}: ${detail}`);
  }
  console.log(
    findings.length === 0
      ? [`clean: ${RULE_NAMES.length} rules`, ...RULE_NAMES.map((rule) => `  ${rule}`)].join('\n')
      : `${findings.length} discrepancies`,
  );
  return findings.length === 0 ? 0 : 1;
}

/** @param acceptedFile as `--accepted` of the command */
export async function auditServers(config: AuditConfig, acceptedFile?: string): Promise<SaleAudit[]> {
  const accepted = acceptedFile === undefined ? [] : await readAccepted(acceptedFile);
  return withDeps(config, (deps) => auditSales(deps, accepted));
}

async function withDeps<T>(config: AuditConfig, use: (deps: AuditDeps) => Promise<T>): Promise<T> {
  const stores = await openStores({ ...config, ...READS_ONLY }, pino({ level: 'error' }), TOOL_WAITS);
  try {
    await stores.deployment.check();
    const { connectionOptions, namespace } = config.temporal;
    const connection = await Connection.connect({
      ...connectionOptions,
      connectTimeout: TOOL_WAITS.answerMs,
    });
    try {
      const client = new Client({ connection, namespace: namespace ?? 'default' });
      const pace = stores.providerPace(config.PROVIDER_CALLS_PER_SECOND);
      const provider = openProvider(config, stores.deployment, createPaced(pace, 'background'));
      return await use({ stores, client, provider, taskQueue: config.TEMPORAL_TASK_QUEUE });
    } finally {
      await connection.close();
    }
  } finally {
    await stores.close();
  }
}

async function auditSales(deps: AuditDeps, accepted: readonly string[]): Promise<SaleAudit[]> {
  const saleIds = await deps.stores.sales.listIds();
  const ofNoSale = accepted.find((orderNo) => !saleIds.includes(parseOrderNo(orderNo)?.saleId ?? ''));
  if (ofNoSale !== undefined)
    throw new AuditRefusedError(`The accepted order ${ofNoSale} is of no known sale.`);
  const sales = saleIds.map((saleId): Subject => {
    const ofSale = accepted.filter((orderNo) => parseOrderNo(orderNo)?.saleId === saleId);
    return { kind: 'sale', saleId, accepted: ofSale };
  });
  return auditAll(deps, [...sales, { kind: 'strays' }]);
}

async function readAccepted(file: string): Promise<string[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '');
}
