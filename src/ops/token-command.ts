/** `ops token`: signs a token for a service of the shop, such as its back office. */

import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { z } from 'zod';
import { createTokenSigner } from '../api/http/auth.ts';
import { isRole, isScope, ROLE_SCOPES, SCOPES, scopesOf, type Role, type Scope } from '../api/http/scopes.ts';
import type { OpsConfig } from '../config.ts';
import { userIdSchema } from '../domain/ids.ts';
import { OpsError, UsageError } from './errors.ts';
import type { Shell } from './program.ts';
import { hang } from './terminal.ts';

/** A token cannot be taken back, so a forgotten one ends by itself within a year. */
const MAX_TOKEN_DAYS = 365;
const DAY_MS = 24 * 60 * 60_000;

const HELP = `
The token goes to standard output, what it may do to standard error.

Examples:
  ops token --subject back-office --scope "sales:write events:read events:write" --days 90
  ops token --subject grace --roles operator --days 1`;

export function addTokenCommand(program: Command, { terminal, run }: Shell): void {
  program
    .command('token')
    .description('signs a token for a service of the shop, with JWT_SECRET')
    .requiredOption('--subject <name>', 'whose it is; audit_log names it as who decided', subject)
    .requiredOption('--days <n>', `days until it ends, at most ${MAX_TOKEN_DAYS}`, days)
    .option('--scope <scopes>', `what it may do: ${SCOPES.join(', ')}`, scopes, [])
    .option('--roles <roles>', `or by role: ${Object.keys(ROLE_SCOPES).join(', ')}`, roles, [])
    .addHelpText('after', HELP)
    .action((options: unknown) =>
      run(async ({ config }) => {
        const wanted = tokenOptions.parse(options);
        if (wanted.scope.length + wanted.roles.length === 0)
          throw new UsageError('Say what the token may do: --scope or --roles.');
        const sign = createTokenSigner(rulesOf(config));
        const rights = {
          ...(wanted.roles.length === 0 ? {} : { roles: wanted.roles }),
          ...(wanted.scope.length === 0 ? {} : { scope: wanted.scope.join(' ') }),
        };
        terminal.out(await sign(wanted.subject, `${wanted.days}d`, rights));
        terminal.err(hang('', describeToken(rights, wanted.days), terminal.columns));
        return true;
      }),
    );
}

const tokenOptions = z.object({
  subject: z.string(),
  days: z.number(),
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
    `Its bearer may do this until ${until}: ${[...scopesOf(rights)].join(', ')}. ` +
    'It cannot be taken back; only another JWT_SECRET ends it, and all others with it.'
  );
}

function subject(text: string): string {
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
