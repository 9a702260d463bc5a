/** `npm run audit`: does everything that the running `npm start` has sold and taken add up? */

import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';

import { RULE_NAMES } from '../src/audit/audit-sale.ts';
import { runAudit, type AuditDeps, type SaleAudit } from '../src/audit/run-audit.ts';
import { openProvider } from '../src/payments/open.ts';
import { openStores } from '../src/stores/open.ts';
import { readAddresses, type Addresses } from './addresses.ts';
import { demoSecrets } from './app.ts';

const addresses = readAddresses();
if (addresses === undefined) {
  console.error('Nothing is running here: run `npm start` in another terminal first.');
  process.exit(1);
}
process.exitCode = await withDeps(addresses, auditAll);

async function withDeps(running: Addresses, use: (deps: AuditDeps) => Promise<number>): Promise<number> {
  const config = { REDIS_URL: running.redisUrl.split(','), MYSQL_URL: running.mysqlUrl };
  // The auditor only reads: what bounds starts does not concern it.
  const stores = await openStores(
    { ...config, ENGINE_BUDGET: 1, ENGINE_STARTS_PER_SECOND: 1 },
    pino({ level: 'warn' }),
  );
  const connection = await Connection.connect({ address: running.temporalAddress });
  const provider = openProvider({
    PAYMENT_PROVIDER_URL: running.providerUrl,
    PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
    WEBHOOK_SECRETS: [demoSecrets.webhook],
  });
  try {
    return await use({ stores, client: new Client({ connection }), provider });
  } finally {
    await connection.close();
    await stores.close();
  }
}

/** Answers the exit code. */
async function auditAll(deps: AuditDeps): Promise<number> {
  const audits: SaleAudit[] = [];
  for (const saleId of await deps.stores.sales.listIds()) audits.push(await runAudit(deps, saleId, []));
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
  for (const { sale, rule, subject, detail } of findings)
    console.log(`${sale}: ${rule}: ${subject}: ${detail}`);
  console.log(findings.length === 0 ? `clean: ${RULE_NAMES.join(', ')}` : `${findings.length} discrepancies`);
  return findings.length === 0 ? 0 : 1;
}
