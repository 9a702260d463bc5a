/** `ops reconcile`, `rebuild` and `audit`: the upkeep that runs by itself, run once by hand. */

import type { Command } from 'commander';
import { z } from 'zod';
import { RULE_NAMES } from '../audit/audit-sale.ts';
import { auditServers } from '../audit/command.ts';
import type { SaleAudit } from '../audit/run-audit.ts';
import { SALE_ID_PATTERN } from '../domain/limits.ts';
import { createOrderEngine } from '../engine/order-engine.ts';
import { createOrderSigner } from '../payments/signed-order.ts';
import { rebuildSale, type RebuildOutcome } from '../rebuild/rebuild-sale.ts';
import type { StepReport } from '../reconcile/report.ts';
import { createReconcileSteps, type ReconcileSteps } from '../reconcile/steps.ts';
import { recordAction, type Decision } from '../stores/mysql/rows/audit-log.ts';
import { asAction, asRead, readDecision } from './arguments.ts';
import { OpsError, UsageError } from './errors.ts';
import { messageOf, type Parts } from './parts.ts';
import type { Shell } from './program.ts';
import { withProgress } from './progress.ts';
import { formatTable, hang, type Terminal } from './terminal.ts';

const auditOptions = z.object({ accepted: z.string().optional(), json: z.boolean() });

export function addUpkeepCommands(program: Command, { terminal, user, run }: Shell): void {
  asAction(program.command('reconcile'), user)
    .description('runs the steps of the reconciliation once, as the worker does each minute')
    .argument('[step]', 'only this one')
    .addHelpText('after', '\nExample:\n  ops reconcile holds --reason "Redis was restarted"')
    .action((step: string | undefined, options: unknown) =>
      run((parts) => reconcile(parts, step, readDecision(options), terminal)),
    );

  asAction(program.command('rebuild'), user)
    .description("makes a sale's data in Redis again from MySQL; it pauses meanwhile")
    .argument('<saleId>', 'of a sale that has been on')
    .addHelpText('after', '\nExample:\n  ops rebuild summer --reason "its data were edited by hand"')
    .action((saleId: string, options: unknown) =>
      run((parts) => rebuild(parts, saleId, readDecision(options), terminal)),
    );

  asRead(program.command('audit'))
    .description('audits every sale: stores, workflows and the book of the provider must agree')
    .option('--accepted <file>', 'orders that were answered with 202, one a line: each must exist')
    .addHelpText('after', '\nExample:\n  ops audit --accepted accepted.txt')
    .action((options: unknown) =>
      run(async (parts) => {
        const { accepted, json } = auditOptions.parse(options);
        const audits = await withProgress(terminal, 'reading every store', () =>
          auditServers(parts.config, accepted),
        ).catch((error: unknown) => {
          throw new OpsError(messageOf(error), { cause: error });
        });
        terminal.out(json ? JSON.stringify(audits, undefined, 2) : printAudits(audits, terminal.columns));
        return audits.every(({ findings }) => findings.length === 0);
      }),
    );
}

/** A step that fails does not keep the others from running. */
async function reconcile(
  parts: Parts,
  only: string | undefined,
  decision: Decision,
  terminal: Terminal,
): Promise<boolean> {
  const steps = await openSteps(parts);
  if (only !== undefined && !steps.has(only))
    throw new UsageError(`There is no step ${only}; there are ${[...steps.keys()].join(', ')}.`);
  const reports: Record<string, StepReport | { failed: string }> = {};
  // The steps end themselves; a Ctrl-C ends the process, and each may die at any line.
  const { signal } = new AbortController();
  for (const [name, step] of steps) {
    if (only !== undefined && only !== name) continue;
    reports[name] = await withProgress(terminal, name, () =>
      step(signal).catch((error: unknown) => ({ failed: messageOf(error) })),
    );
  }
  const action = { ...decision, action: 'reconciled' as const, subject: only ?? 'all steps' };
  await recordAction(parts.pool(), { ...action, detail: reports });
  terminal.out(printReports(reports, terminal.columns));
  return Object.values(reports).every((report) => !('failed' in report));
}

async function openSteps(parts: Parts): Promise<ReconcileSteps> {
  const stores = await parts.stores();
  return createReconcileSteps({
    ...stores,
    engine: createOrderEngine(await parts.temporal(), {
      eager: false,
      taskQueue: parts.config.TEMPORAL_TASK_QUEUE,
    }),
    provider: await parts.provider(),
    signer: createOrderSigner(parts.config.ORDER_SIGNING_SECRETS),
    keep: parts.config,
    log: parts.log,
  });
}

function printReports(reports: Record<string, StepReport | { failed: string }>, columns: number): string {
  const rows = Object.entries(reports).map(([name, report]) =>
    'failed' in report
      ? [name, '-', '-', '-', `failed: ${report.failed}`]
      : [name, ...[report.looked, report.repaired, report.parked].map(String), ''],
  );
  return formatTable(['step', 'looked', 'repaired', 'parked', ''], rows, columns);
}

async function rebuild(
  parts: Parts,
  saleId: string,
  { actor, reason }: Decision,
  terminal: Terminal,
): Promise<boolean> {
  if (!SALE_ID_PATTERN.test(saleId)) throw new UsageError(`${saleId} is no id of a sale.`);
  const stores = await parts.stores();
  const outcome = await withProgress(terminal, `rebuilding ${saleId}`, () =>
    rebuildSale({ ...stores, log: parts.log }, saleId, {
      cause: 'requested',
      actor,
      ...(reason === null ? {} : { reason }),
    }),
  );
  terminal.out(hang('', describeRebuild(saleId, outcome), terminal.columns));
  return true;
}

/** @throws OpsError when it was not rebuilt */
function describeRebuild(saleId: string, outcome: RebuildOutcome): string {
  switch (outcome.kind) {
    case 'rebuilt': {
      const { epoch, openOrders, requests, left, durationMs } = outcome;
      const waiting = left > 0 ? ` ${left} orders were not stored yet and are reserved again.` : '';
      return `Sale ${saleId} is in epoch ${epoch} after ${durationMs} ms, with ${openOrders} open orders and ${requests} remembered requests.${waiting}`;
    }
    case 'busy':
      throw new OpsError(`Another process rebuilds ${saleId} at this moment.`);
    case 'not-warm':
      throw new OpsError(`There is no sale ${saleId}, or it has never been on.`);
    default:
      return outcome satisfies never;
  }
}

function printAudits(audits: readonly SaleAudit[], columns: number): string {
  const rows = audits.map(({ saleId, orders, payments, findings }) => [
    saleId,
    ...[orders, payments, findings.length].map(String),
  ]);
  const findings = audits.flatMap(({ saleId, findings: found }) =>
    found.map(({ rule, subject, detail }) =>
      hang('  - ', `${saleId}: ${rule}: ${subject}: ${detail}`, columns),
    ),
  );
  const verdict =
    findings.length === 0 ? `clean: ${RULE_NAMES.length} rules` : `${findings.length} discrepancies:`;
  return [formatTable(['sale', 'orders', 'payments', 'findings'], rows, columns), verdict, ...findings].join(
    '\n',
  );
}
