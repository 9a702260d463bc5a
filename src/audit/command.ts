/** The audit as a command: every sale, a table, each discrepancy by name. */

import { readFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import type { AuditConfig } from '../config.ts';
import { parseOrderNo } from '../domain/order.ts';
import { openProvider } from '../payments/open.ts';
import { openStores } from '../stores/open.ts';
import { RULE_NAMES } from './audit-sale.ts';
import { auditStrayMoney, runAudit, type AuditDeps, type SaleAudit } from './run-audit.ts';

/** The auditor only reads: what bounds starts does not concern it. */
const READS_ONLY = { ENGINE_BUDGET: 1, ENGINE_STARTS_PER_SECOND: 1 };

/**
 * @param args `--accepted FILE`: the orders that clients were told are accepted, an orderNo a line
 * @returns the exit code: 0 when everything adds up
 */
export async function auditCommand(config: AuditConfig, args: readonly string[]): Promise<number> {
  const { values } = parseArgs({ args: [...args], options: { accepted: { type: 'string' } } });
  const accepted = values.accepted === undefined ? [] : await readAccepted(values.accepted);
  const audits = await withDeps(config, (deps) => auditSales(deps, accepted));
  console.table(
    audits.map(({ saleId, orders, payments, findings }) => ({
      sale: saleId,
      orders,
      payments,
      findings: findings.length,
    })),
  );
  const findings = audits.flatMap((audit) =>
    audit.findings.map((finding) => ({ sale: audit.saleId, ...finding })),
  );
  for (const { sale, rule, subject, detail } of findings) {
    console.log(`${sale}: ${rule}: ${subject}: ${detail}`);
  }
  console.log(findings.length === 0 ? `clean: ${RULE_NAMES.join(', ')}` : `${findings.length} discrepancies`);
  return findings.length === 0 ? 0 : 1;
}

async function withDeps<T>(config: AuditConfig, use: (deps: AuditDeps) => Promise<T>): Promise<T> {
  const stores = await openStores({ ...config, ...READS_ONLY }, pino({ level: 'warn' }));
  try {
    const { connectionOptions, namespace } = config.temporal;
    const connection = await Connection.connect(connectionOptions);
    try {
      const client = new Client({ connection, namespace: namespace ?? 'default' });
      return await use({ stores, client, provider: openProvider(config) });
    } finally {
      await connection.close();
    }
  } finally {
    await stores.close();
  }
}

async function auditSales(deps: AuditDeps, accepted: readonly string[]): Promise<SaleAudit[]> {
  const saleIds = await deps.stores.sales.listIds();
  const strange = accepted.find((orderNo) => !saleIds.includes(parseOrderNo(orderNo)?.saleId ?? ''));
  if (strange !== undefined) throw new Error(`accepted, and of no sale that is known: ${strange}`);
  const audits: SaleAudit[] = [];
  for (const saleId of saleIds) {
    const ofSale = accepted.filter((orderNo) => parseOrderNo(orderNo)?.saleId === saleId);
    audits.push(await runAudit(deps, saleId, ofSale));
  }
  audits.push(await auditStrayMoney(deps));
  return audits;
}

async function readAccepted(file: string): Promise<string[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '');
}
