/** The operator's commands for sales, persons and tokens. */

import { type Command, Option, InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { createTokenSigner, scopesOf } from '../api/http/auth.ts';
import { isRole, isScope } from '../api/http/auth.ts';
import { ROLE_SCOPES, SCOPES, type Role, type Scope } from '../api/http/scopes.ts';
import { auditServers, describeAuditFailure } from '../audit/command.ts';
import { RULE_NAMES, type SaleAudit } from '../audit/run-audit.ts';
import type { OpsConfig } from '../config.ts';
import { createOrderEngine } from '../engine/order-engine.ts';
import { SALE_ID_PATTERN } from '../limits.ts';
import { messageOf } from '../log.ts';
import { readSettlement } from '../money/settlement.sql.ts';
import { SETTLEMENT_FORMATS, writeSettlement } from '../money/settlement.ts';
import { userIdSchema } from '../orders/content.ts';
import { recordAction, type Decision } from '../parked/parked.sql.ts';
import { createOrderSigner } from '../providers/signed-order.ts';
import { rebuildSale, type RebuildOutcome } from '../reconcile/rebuild-sale.ts';
import { erasePerson, type EraseOutcome } from '../reconcile/retention.ts';
import { RECONCILE_STEPS } from '../reconcile/steps.ts';
import type { StepReport } from '../workflows/contract.ts';
import type { Parts } from './parts.ts';
import type { Shell } from './parts.ts';
import {
  asAction,
  asRead,
  readDecision,
  OpsError,
  UsageError,
  withProgress,
  formatTable,
  hang,
  type Terminal,
} from './terminal.ts';

// `ops reconcile`, `rebuild` and `audit`: the upkeep that runs by itself, run once by hand.

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
          throw new OpsError(describeAuditFailure(error), { cause: error });
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
  const deps = await openDeps(parts);
  if (only !== undefined && !RECONCILE_STEPS.has(only))
    throw new UsageError(`There is no step ${only}; there are ${[...RECONCILE_STEPS.keys()].join(', ')}.`);
  const reports: Record<string, StepReport | { failed: string }> = {};
  // The steps end themselves; a Ctrl-C ends the process, and each may die at any line.
  const { signal } = new AbortController();
  for (const [name, step] of RECONCILE_STEPS) {
    if (only !== undefined && only !== name) continue;
    reports[name] = await withProgress(terminal, name, () =>
      step(deps, signal).catch((error: unknown) => ({ failed: messageOf(error) })),
    );
  }
  const action = { ...decision, action: 'reconciled' as const, subject: only ?? 'all steps' };
  await recordAction(parts.pool(), { ...action, detail: reports });
  terminal.out(printReports(reports, terminal.columns));
  return Object.values(reports).every((report) => !('failed' in report));
}

async function openDeps(parts: Parts) {
  const stores = await parts.stores();
  return {
    ...stores,
    engine: createOrderEngine(await parts.temporal(), {
      eager: false,
      taskQueue: parts.config.TEMPORAL_TASK_QUEUE,
    }),
    provider: await parts.provider(),
    signer: createOrderSigner(parts.config.ORDER_SIGNING_SECRETS),
    keep: parts.config,
    log: parts.log,
  };
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
  const rows = audits.map(({ saleId, orders, payments, paidWithoutWorkflow, lost, findings }) => [
    saleId,
    ...[orders, payments, paidWithoutWorkflow, lost.length, findings.length].map(String),
  ]);
  const losses = audits.flatMap(({ lost }) =>
    lost.map((orderNo) => hang('  - ', `lost: ${orderNo}`, columns)),
  );
  const findings = audits.flatMap(({ saleId, findings: found }) =>
    found.map(({ rule, subject, detail }) =>
      hang('  - ', `${saleId}: ${rule}: ${subject}: ${detail}`, columns),
    ),
  );
  const verdict =
    findings.length === 0 ? `clean: ${RULE_NAMES.length} rules` : `${findings.length} discrepancies:`;
  const table = formatTable(
    ['sale', 'orders', 'payments', 'paid without a workflow', 'lost', 'findings'],
    rows,
    columns,
  );
  return [table, ...losses, verdict, ...findings].join('\n');
}

// `ops erase`: erases a person on request; the books still add up.

export function addEraseCommand(program: Command, { terminal, user, run }: Shell): void {
  asAction(program.command('erase'), user)
    .description('erases a person: their orders stay in the books under a random name')
    .argument('<userId>', 'as the subject of the shopper token')
    .addHelpText('after', '\nExample:\n  ops erase shopper-17 --reason "asked for it, ticket 4711"')
    .action((userId: string, options: unknown) =>
      run(async (parts) => {
        if (!userIdSchema.safeParse(userId).success) throw new UsageError(`${userId} is no user id.`);
        const stores = await parts.stores();
        const outcome = await withProgress(terminal, 'erasing', () =>
          erasePerson(stores, userId, readDecision(options)),
        );
        terminal.out(hang('', describeErased(outcome), terminal.columns));
        return true;
      }),
    );
}

/** @throws OpsError when the person was not erased */
function describeErased(outcome: EraseOutcome): string {
  switch (outcome.kind) {
    case 'erased':
      return `Erased. What stays in the books (orders: ${outcome.orders}) is under ${outcome.token}.`;
    case 'busy':
      throw new OpsError(
        `An order of that person has not ended yet; erase them when it has: ${outcome.orderNos.join(', ') || 'accepted, not stored'}.`,
      );
    case 'unknown':
      throw new OpsError('No store has anything of that person.');
    default:
      return outcome satisfies never;
  }
}

// `ops settlement`: prints the settlement of a sale, as the HTTP call exports it.

const settlementOptions = z.object({ format: z.enum(SETTLEMENT_FORMATS) });

export function addSettlementCommand(program: Command, { terminal, run }: Shell): void {
  program
    .command('settlement')
    .description("a sale's orders, payments, refunds and disputes, a line each, with totals")
    .argument('<saleId>', 'of any sale')
    .addOption(new Option('--format <format>', 'how').choices(SETTLEMENT_FORMATS).default('csv'))
    .addHelpText('after', '\nExample:\n  ops settlement summer --format json > summer.json')
    .action((saleId: string, options: unknown) =>
      run(async (parts) => {
        const { format } = settlementOptions.parse(options);
        if (!(await parts.mysql().sales.read(saleId))) throw new OpsError(`There is no sale ${saleId}.`);
        for await (const text of writeSettlement(saleId, readSettlement(parts.pool(), saleId), format))
          await terminal.write(text);
        return true;
      }),
    );
}

// `ops token`: signs a token of a service of the shop, such as its back office, or of a shopper to try with.

/** A token cannot be taken back, so a forgotten one ends by itself within a year. */
const MAX_TOKEN_DAYS = 365;
const DAY_MS = 24 * 60 * 60_000;

const HELP = `
The token goes to standard output, what it may do to standard error.

Examples:
  ops token --shopper alice
  ops token --subject back-office --scope "sales:write events:read events:write" --days 90
  ops token --subject grace --roles operator --days 1`;

export function addTokenCommand(program: Command, { terminal, run }: Shell): void {
  program
    .command('token')
    .description('signs a token with JWT_SECRET: of a service of the shop, or of a shopper to try with')
    .addOption(
      new Option('--shopper <userId>', 'of a shopper, for a day unless --days is given')
        .argParser(parseSubject)
        .conflicts(['subject', 'scope', 'roles']),
    )
    .option('--subject <name>', 'of a service or of staff: audit_log names it as who decided', parseSubject)
    .option('--days <n>', `days until it ends, at most ${MAX_TOKEN_DAYS}`, days)
    .option('--scope <scopes>', `what it may do: ${SCOPES.join(', ')}`, scopes, [])
    .option('--roles <roles>', `or by role: ${Object.keys(ROLE_SCOPES).join(', ')}`, roles, [])
    .addHelpText('after', HELP)
    .action((options: unknown) =>
      run(async ({ config }) => {
        const { shopper, ...wanted } = tokenOptions.parse(options);
        const { subject = shopper, days: forDays = shopper && 1 } = wanted;
        if (!subject || !forDays)
          throw new UsageError('Say whose it is: --shopper, or --subject with --days.');
        if (!shopper && wanted.scope.length + wanted.roles.length === 0)
          throw new UsageError('Say what the token may do: --scope or --roles.');
        const sign = createTokenSigner(rulesOf(config));
        const rights = {
          ...(wanted.roles.length === 0 ? {} : { roles: wanted.roles }),
          ...(wanted.scope.length === 0 ? {} : { scope: wanted.scope.join(' ') }),
        };
        terminal.out(await sign(subject, `${forDays}d`, rights));
        terminal.err(hang('', describeToken(rights, forDays), terminal.columns));
        return true;
      }),
    );
}

const tokenOptions = z.object({
  shopper: z.string().optional(),
  subject: z.string().optional(),
  days: z.number().optional(),
  scope: z.array(z.custom<Scope>(isScope)),
  roles: z.array(z.custom<Role>(isRole)),
});

/** @throws OpsError where tokens are only verified by an issuer's keys */
function rulesOf({ JWT_SECRET: secret, JWT_ISSUER, JWT_AUDIENCE, JWT_USER_CLAIM }: OpsConfig) {
  if (secret === undefined)
    throw new OpsError(
      'JWT_SECRET is not set here. Run it with the environment of the API, or ask the issuer.',
    );
  return { secret, issuers: JWT_ISSUER, audiences: JWT_AUDIENCE, userClaim: JWT_USER_CLAIM };
}

function describeToken(rights: { roles?: Role[]; scope?: string }, forDays: number): string {
  const until = new Date(Date.now() + forDays * DAY_MS).toISOString().slice(0, 10);
  return (
    `Its bearer may do this until ${until}: ${[...scopesOf(rights)].join(', ') || 'what any shopper may'}. ` +
    'It cannot be taken back; only another JWT_SECRET ends it, and all others with it.'
  );
}

function parseSubject(text: string): string {
  if (!userIdSchema.safeParse(text).success) throw new InvalidArgumentError('It is no user id.');
  return text;
}

function days(text: string): number {
  const number = /^[1-9]\d{0,2}$/.test(text) ? Number(text) : Infinity;
  if (number > MAX_TOKEN_DAYS)
    throw new InvalidArgumentError(`It is a whole number from 1 to ${MAX_TOKEN_DAYS}.`);
  return number;
}

const namesIn = (text: string): string[] => text.split(/[\s,]+/).filter((name) => name !== '');

function scopes(text: string): Scope[] {
  return namesIn(text).map((name) => {
    if (!isScope(name)) throw new InvalidArgumentError(`There is no scope ${name}.`);
    return name;
  });
}

function roles(text: string): Role[] {
  return namesIn(text).map((name) => {
    if (!isRole(name)) throw new InvalidArgumentError(`There is no role ${name}.`);
    return name;
  });
}
