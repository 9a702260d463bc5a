/** `ops parked`: lists and shows parked work, has it tried again, or takes it off the list. */

import { Option, type Command } from 'commander';
import { z } from 'zod';
import type { ParkedEntry } from '../stores/mysql/ops/parked-work.ts';
import { PARKED_KINDS } from '../stores/mysql/rows/parked-facts.ts';
import { adviceOn } from './advice.ts';
import { asAction, asRead, readDecision, rowId, wholeNumber } from './arguments.ts';
import { OpsError } from './errors.ts';
import type { Parts } from './parts.ts';
import type { Shell } from './program.ts';
import { retryParked } from './retry.ts';
import { formatAge, formatFields, formatTable, formatTime, hang, type Terminal } from './terminal.ts';

/** Entries that are listed: some screens. More are a pattern, which the first ones show. */
const LIST_MAX = 100;

const listOptions = z.object({
  kind: z.enum(PARKED_KINDS).optional(),
  all: z.boolean(),
  limit: z.int(),
  json: z.boolean(),
});
const showOptions = z.object({ json: z.boolean() });

export function addParkedCommands(program: Command, { terminal, user, run }: Shell): void {
  const parked = program
    .command('parked')
    .description('work that the rules could not settle, and that waits for an operator');

  asRead(parked.command('list'))
    .description('what is parked, the longest first')
    .addOption(new Option('--kind <kind>', 'only these').choices(PARKED_KINDS))
    .option('--all', 'also what is resolved, the newest first', false)
    .option('--limit <n>', 'at most so many', wholeNumber, LIST_MAX)
    .addHelpText('after', '\nExamples:\n  ops parked list --kind refund\n  ops parked list --all --json')
    .action((options: unknown) => run((parts) => list(parts, listOptions.parse(options), terminal)));

  asRead(parked.command('show'))
    .description('one entry: cause, inputs, errors, and what to do')
    .argument('<id>', 'as the list shows it', rowId)
    .addHelpText('after', '\nExample:\n  ops parked show 7')
    .action((id: number, options: unknown) =>
      run(async (parts) => {
        const entry = await find(parts, id);
        terminal.out(
          showOptions.parse(options).json ? toJson(entry) : describeEntry(entry, terminal.columns),
        );
        return true;
      }),
    );

  asAction(parked.command('retry'), user)
    .description('has the work tried again, before new work')
    .argument('<id>', 'as the list shows it', rowId)
    .addHelpText('after', `\nExample:\n  ops parked retry 7 --reason "the provider's account is topped up"`)
    .action((id: number, options: unknown) =>
      run(async (parts) => {
        const { isDone, text } = await retryParked(parts, await find(parts, id), readDecision(options));
        terminal.out(hang('', text, terminal.columns));
        return isDone;
      }),
    );

  asAction(parked.command('resolve'), user)
    .description('takes the entry off the list: you have settled it by hand')
    .argument('<id>', 'as the list shows it', rowId)
    .addHelpText(
      'after',
      '\nExample:\n  ops parked resolve 7 --reason "paid back by bank transfer, ticket 4711"',
    )
    .action((id: number, options: unknown) =>
      run(async (parts) => {
        const outcome = await parts.mysql().parkedWork.resolve(id, readDecision(options));
        if (outcome === 'unknown') throw notFound(id);
        terminal.out(outcome === 'resolved' ? `${id} is resolved.` : `${id} was resolved before.`);
        return true;
      }),
    );
}

async function list(
  parts: Parts,
  { json, ...filter }: z.infer<typeof listOptions>,
  terminal: Terminal,
): Promise<boolean> {
  // One more than asked for shows whether there are more.
  const found = await parts.mysql().parkedWork.list({ ...filter, limit: filter.limit + 1 });
  const entries = found.slice(0, filter.limit);
  if (json) {
    terminal.out(toJson(entries));
  } else if (entries.length === 0) {
    terminal.out('Nothing is parked.');
  } else {
    const head = ['id', 'kind', 'cause', 'since', 'times', 'reference', ...(filter.all ? ['now'] : [])];
    terminal.out(
      formatTable(
        head,
        entries.map((entry) => toRow(entry, filter.all)),
        terminal.columns,
      ),
    );
    if (found.length > entries.length) terminal.out(`… and more; --limit shows them.`);
  }
  return true;
}

function toRow(entry: ParkedEntry, withState: boolean): string[] {
  const { parkedId, kind, cause, firstAt, times, reference } = entry;
  const since = formatAge(Date.now() - firstAt.getTime());
  const row = [String(parkedId), kind, cause, since, String(times), reference];
  return withState ? [...row, stateOf(entry)] : row;
}

function stateOf({ resolvedAt, settledBy }: ParkedEntry): string {
  return resolvedAt === null ? 'parked' : `resolved by ${settledBy ?? 'rules'}`;
}

async function find(parts: Parts, id: number): Promise<ParkedEntry> {
  const entry = await parts.mysql().parkedWork.read(id);
  if (!entry) throw notFound(id);
  return entry;
}

function notFound(id: number): OpsError {
  return new OpsError(`There is no parked entry ${id}; \`ops parked list\` shows what is parked.`);
}

function describeEntry(entry: ParkedEntry, columns: number): string {
  const seen = `${formatTime(entry.lastAt)}, ${entry.times} ${entry.times === 1 ? 'time' : 'times'} in all`;
  const inputs = Object.entries(entry.inputs).map(([name, value]) => `${name} ${value}`);
  const fields: [string, string][] = [
    ['cause', entry.cause],
    ['inputs', inputs.join(', ') || '(none recorded)'],
    ['reason', entry.reason],
    ['last error', entry.lastError],
    ['first', `${formatTime(entry.firstAt)} (${formatAge(Date.now() - entry.firstAt.getTime())} ago)`],
    ['last', seen],
    ['now', entry.resolvedAt ? `${stateOf(entry)}, ${formatTime(entry.resolvedAt)}` : stateOf(entry)],
    ...(entry.resolvedAt ? [] : ([['what to do', adviceOn(entry)]] as [string, string][])),
  ];
  const title = `Parked ${entry.parkedId}: ${entry.kind} ${entry.reference}`;
  return `${title}\n${formatFields(fields, columns)}`;
}

function toJson(value: unknown): string {
  return JSON.stringify(value, undefined, 2);
}
