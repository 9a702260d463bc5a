/** The operator's commands for sales, persons and tokens. */

import { setTimeout as delay } from 'node:timers/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import { auditLogReply } from '../api/calls/audit-log.ts';
import { reconcileReply, reconcileRequestedReply } from '../api/calls/upkeep.ts';
import { createTokenSigner, scopesOf } from '../api/http/auth.ts';
import { isRole, isScope } from '../api/http/auth.ts';
import { ROLE_SCOPES, SCOPES, type Role, type Scope } from '../api/http/scopes.ts';
import { auditServers, describeAuditFailure } from '../audit/command.ts';
import { RULE_NAMES, type SaleAudit } from '../audit/run-audit.ts';
import type { OpsConfig } from '../config.ts';
import { userIdSchema } from '../orders/content.ts';
import { erasePerson, type EraseOutcome } from '../reconcile/retention.ts';
import type { Api } from './api.ts';
import type { Shell } from './parts.ts';
import {
  asAction,
  asRead,
  formatTable,
  hang,
  OpsError,
  readReason,
  UsageError,
  withProgress,
} from './terminal.ts';

// `ops reconcile`, `rebuild` and `audit`: the upkeep that runs by itself, asked for by hand.

/** Between two looks at what was asked for, which takes seconds. */
const LOOK_EVERY_MS = 500;
/** A run may wait for the one before it, and each takes ten minutes at most. */
const RECONCILED_WITHIN_MS = 21 * 60_000;
/** A sale of a million orders takes a minute. */
const REBUILT_WITHIN_MS = 10 * 60_000;

const auditOptions = z.object({ accepted: z.string().optional(), json: z.boolean() });

export function addUpkeepCommands(program: Command, { terminal, run, call }: Shell): void {
  asAction(program.command('reconcile'))
    .description('has the reconciliation run once more in a worker, and prints what it did')
    .addHelpText('after', '\nExample:\n  ops reconcile --reason "Redis was restarted"')
    .action((options: unknown) =>
      call(async (api) => {
        const steps = await withProgress(terminal, 'reconciling', () => reconcile(api, readReason(options)));
        const rows = steps.map(({ step, looked, repaired, parked, failed }) =>
          failed === null
            ? [step, ...[looked, repaired, parked].map(String), '']
            : [step, '-', '-', '-', `failed: ${failed}`],
        );
        terminal.out(formatTable(['step', 'looked', 'repaired', 'parked', ''], rows, terminal.columns));
        return steps.every(({ failed }) => failed === null);
      }),
    );

  asAction(program.command('rebuild'))
    .description("has a worker make a sale's data in Redis again from MySQL; it pauses meanwhile")
    .argument('<saleId>', 'of a sale that is on, or was lately')
    .addHelpText('after', '\nExample:\n  ops rebuild summer --reason "its data were edited by hand"')
    .action((saleId: string, options: unknown) =>
      call(async (api) => {
        const text = await withProgress(terminal, `rebuilding ${saleId}`, () =>
          rebuild(api, saleId, readReason(options)),
        );
        terminal.out(hang('', text, terminal.columns));
        return true;
      }),
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

/** Looks until there is something. @throws OpsError after so long */
async function lookUntil<T>(withinMs: number, look: () => Promise<T | undefined>): Promise<T> {
  const untilMs = Date.now() + withinMs;
  while (Date.now() < untilMs) {
    const found = await look();
    if (found !== undefined) return found;
    await delay(LOOK_EVERY_MS);
  }
  throw new OpsError('It is asked for, and no worker has done it yet: see `ops status`.');
}

/** @returns what each step did */
async function reconcile(api: Api, body: { reason: string }) {
  const asked = await api.call(reconcileRequestedReply, 'reconcile', { body });
  const run = await lookUntil(RECONCILED_WITHIN_MS, async () => {
    const latest = (await api.call(reconcileReply, 'reconcile')).body;
    return latest.runId === asked.body.latestRunId || latest.endedAt === null ? undefined : latest;
  });
  if (!run.steps) throw new OpsError('The run was ended from outside.');
  return run.steps;
}

const rebuiltDetail = z.object({
  epoch: z.int(),
  openOrders: z.int(),
  requests: z.int(),
  left: z.int(),
  durationMs: z.int(),
});

/** The audit log says when it is done: there it follows the request. */
async function rebuild(api: Api, saleId: string, body: { reason: string }): Promise<string> {
  await api.send(`sales/${encodeURIComponent(saleId)}/rebuild`, { body });
  const query = new URLSearchParams({ subject: `sale ${saleId}`, limit: '20' });
  const rebuilt = await lookUntil(REBUILT_WITHIN_MS, async () => {
    const { entries } = (await api.call(auditLogReply, `audit-log?${query.toString()}`)).body;
    const since = entries.slice(
      0,
      entries.findIndex(({ action }) => action === 'rebuild_requested'),
    );
    return since.find(({ action }) => action === 'sale_rebuilt');
  });
  const { epoch, openOrders, requests, left, durationMs } = rebuiltDetail.parse(rebuilt.detail);
  const waiting = left > 0 ? ` ${left} orders were not stored yet and are reserved again.` : '';
  return `Sale ${saleId} is in epoch ${epoch} after ${durationMs} ms, with ${openOrders} open orders and ${requests} remembered requests.${waiting}`;
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

function actor(text: string): string {
  if (!/^[\w.@+-]{1,128}$/.test(text))
    throw new InvalidArgumentError('It is a name: letters, digits and . _ @ + -, up to 128.');
  return text;
}

const eraseOptions = z.object({ reason: z.string(), as: z.string() });

export function addEraseCommand(program: Command, { terminal, user, run }: Shell): void {
  asAction(program.command('erase'))
    .option('--as <name>', 'who decides this; the audit log keeps it', actor, user)
    .description('erases a person: their orders stay in the books under a random name')
    .argument('<userId>', 'as the subject of the shopper token')
    .addHelpText('after', '\nExample:\n  ops erase shopper-17 --reason "asked for it, ticket 4711"')
    .action((userId: string, options: unknown) =>
      run(async (parts) => {
        if (!userIdSchema.safeParse(userId).success) throw new UsageError(`${userId} is no user id.`);
        const stores = await parts.stores();
        const { reason, as } = eraseOptions.parse(options);
        const outcome = await withProgress(terminal, 'erasing', () =>
          erasePerson(stores, userId, { actor: as, reason }),
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
