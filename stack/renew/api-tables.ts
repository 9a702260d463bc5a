/** Renders the tables of docs/api.md from what the calls and the codes say of themselves. */

import { z } from 'zod';
import { ADMIN_CALLS, SHOP_CALLS } from '../../src/api/calls/calls.ts';
import { codesOf, type Entry } from '../../src/api/http/entry.ts';
import { PROBLEMS } from '../../src/api/http/problem-codes.ts';
import { ROLE_SCOPES, SCOPES } from '../../src/api/http/scopes.ts';
import { tableOf, type Blocks } from './markdown.ts';
import { openApiText } from './open-api.ts';

/** By the names that their places on the page have. */
export const API_TABLES: Blocks = {
  'calls of shoppers': renderShopCalls,
  'calls of the back office': renderAdminCalls,
  queries: renderQueries,
  headers: renderHeaders,
  'refusals of calls': renderRefusals,
  codes: renderCodes,
  roles: renderRoles,
  scopes: renderScopes,
};

const quote = (text: string) => `\`${text}\``;
const quoteAll = (texts: readonly string[] = []) => texts.map(quote).join(' ');
/** `:name` as `{name}`. */
const nameOf = (call: string) => quote(call.replaceAll(/:(\w+)/g, '{$1}'));

const BY = { anyone: 'anyone', shopper: 'token', provider: 'signature' } as const;

function renderShopCalls(): string {
  const rows = Object.entries(SHOP_CALLS).map(([call, { does, who, lane, ...entry }]) => [
    nameOf(call),
    does,
    BY[who],
    lane,
    ...traffic(entry),
  ]);
  return tableOf(['call', 'does', 'by', 'lane', 'body', 'reads', 'answers'], rows);
}

function renderAdminCalls(): string {
  const rows = Object.entries(ADMIN_CALLS).map(([call, { does, scope, ...entry }]) => [
    nameOf(call),
    does,
    quote(scope),
    ...traffic(entry),
  ]);
  return tableOf(['call', 'does', 'scope', 'body', 'reads', 'answers'], rows);
}

/** Whether there is a body, which headers are read, and what is answered with which headers. */
function traffic({ body, reads, replies, gives = {} }: Pick<Entry, 'body' | 'reads' | 'replies' | 'gives'>) {
  const statuses = new Set([...Object.keys(replies), ...Object.keys(gives)]);
  const answers = [...statuses].map((status) => `${status} ${quoteAll(gives[Number(status)])}`.trimEnd());
  return [body ? (body.isOptional ? 'may be' : 'yes') : '', quoteAll(reads), answers.join(', ')];
}

const parameter = z.looseObject({
  name: z.string(),
  in: z.string(),
  required: z.boolean().default(false),
  description: z.string().default(''),
  schema: z.looseObject({ type: z.string().optional() }),
});
const document = z.object({
  paths: z.record(z.string(), z.record(z.string(), z.object({ parameters: z.array(parameter) }))),
  components: z.object({ headers: z.record(z.string(), z.object({ description: z.string() })) }),
});
const { paths, components } = document.parse(JSON.parse(openApiText()));
const OPERATIONS = Object.entries(paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, { parameters }]) => ({
    call: `${method.toUpperCase()} ${path}`,
    parameters,
  })),
);

function renderQueries(): string {
  const rows = OPERATIONS.flatMap(({ call, parameters }) =>
    parameters
      .filter((each) => each.in === 'query')
      .map(({ name, required, schema, description }) => [
        quote(call),
        quote(name),
        `${valuesOf(schema)}${required ? ', required' : ''}`,
        description,
      ]),
  );
  return tableOf(['call', 'query', 'takes', 'means'], rows);
}

function valuesOf(schema: Record<string, unknown>): string {
  const { type, enum: values, format, minimum, maximum, default: usual } = schema;
  const unless = usual === undefined ? '' : `; ${JSON.stringify(usual)} unless given`;
  if (Array.isArray(values)) return values.map((value) => quote(String(value))).join(' ');
  if (type === 'integer') return `${String(minimum)} to ${String(maximum)}${unless}`;
  if (type === 'array') return 'a list with commas';
  return typeof format === 'string' ? `a ${format}` : 'text';
}

function renderHeaders(): string {
  const read = new Map(
    OPERATIONS.flatMap(({ parameters }) => parameters)
      .filter((each) => each.in === 'header' && each.description !== '')
      .map(({ name, description }) => [name, description]),
  );
  const given = Object.entries(components.headers).filter(([name]) => name !== 'RetryAfterAlways');
  return tableOf(
    ['header', 'of', 'means'],
    [
      ...[...read].map(([name, means]) => [quote(name), 'requests', means]),
      ...given.map(([name, { description }]) => [quote(name), 'answers', description]),
    ],
  );
}

/** A list, because the cells of a table would be as wide as the longest. */
function renderRefusals(): string {
  const calls: [string, Parameters<typeof codesOf>[0]][] = [
    ...Object.entries(SHOP_CALLS),
    ...Object.entries(ADMIN_CALLS),
  ];
  const common = new Set(
    Object.keys(PROBLEMS).filter((code) =>
      calls.every(([, entry]) => codesOf(entry).some((own) => own === code)),
    ),
  );
  const lines = calls.map(([call, entry]) => {
    const own = codesOf(entry).filter((code) => !common.has(code));
    const codes = own
      .toSorted((one, other) => PROBLEMS[one].status - PROBLEMS[other].status)
      .map((code) => `${PROBLEMS[code].status} ${quote(code)}`);
    return wrap(`- ${nameOf(call)}: ${codes.join(', ')}`);
  });
  return [wrap(`- Every call: ${[...common].map(quote).join(', ')}`), ...lines].join('\n');
}

/** Lines of at most 120 characters; those after the first stand under the text of its point. */
function wrap(text: string): string {
  const lines = [''];
  for (const word of text.split(/(?<=[,:]) /)) {
    const last = lines.at(-1) ?? '';
    if (last !== '' && last.length + word.length > 118) lines.push(`  ${word}`);
    else lines[lines.length - 1] = last === '' ? word : `${last} ${word}`;
  }
  return lines.join('\n');
}

function renderRoles(): string {
  let before: readonly string[] = [];
  let former = '';
  const rows = Object.entries(ROLE_SCOPES).map(([role, scopes]) => {
    const added = quoteAll(scopes.filter((scope) => !before.includes(scope)));
    const row = [quote(role), former === '' ? added : `those of ${quote(former)} and ${added}`];
    [before, former] = [scopes, role];
    return row;
  });
  return tableOf(['role', 'scopes'], rows);
}

function renderScopes(): string {
  const rows = SCOPES.map((scope) => [
    quote(scope),
    Object.entries(ADMIN_CALLS)
      .filter(([, entry]) => entry.scope === scope)
      .map(([call]) => nameOf(call))
      .join(' '),
  ]);
  return tableOf(
    ['scope', 'opens'],
    rows.filter(([, calls]) => calls !== ''),
  );
}

function renderCodes(): string {
  const rows = Object.entries(PROBLEMS).map(([code, { status, says, remedy, ...row }]) => [
    quote(code),
    String(status),
    'more' in row ? `${says} ${row.more}` : says,
    remedy,
  ]);
  return tableOf(
    ['code', 'status', 'meaning', 'what to do'],
    rows.toSorted(([, one = ''], [, other = '']) => Number(one) - Number(other)),
  );
}
