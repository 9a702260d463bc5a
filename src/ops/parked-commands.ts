/** `ops parked` and `ops log`: parked work, and what was decided. */

import { Option, type Command } from 'commander';
import { z } from 'zod';
import { auditLogReply } from '../api/calls/audit-log.ts';
import { parkedFileReply, parkedListReply, retriedReply } from '../api/calls/parked.ts';
import { formatAge, formatTime } from '../clock.ts';
import { PARKED_KINDS } from '../parked/parked.sql.ts';
import type { Shell } from './parts.ts';
import {
  asAction,
  asRead,
  formatFields,
  formatTable,
  readReason,
  rowId,
  toJson,
  wholeNumber,
} from './terminal.ts';

type Entry = z.infer<typeof parkedListReply>['entries'][number];

/** Entries that are listed: some screens. More are a pattern, which the first ones show. */
const LIST_MAX = 100;

const OUTCOMES: Record<z.infer<typeof retriedReply>['outcome'], string> = {
  due: 'It is due before all other work, and a step that waits for its next try is tried at once.',
  followed: 'Its order has ended, and the hold is settled. The entry is resolved.',
  requeued: 'Its order is in the outbox again, and the entry is resolved.',
  resolved: 'It is not parked any more; nothing was changed.',
};

const listOptions = z.object({
  kind: z.string().optional(),
  resolved: z.boolean(),
  limit: z.int(),
  json: z.boolean(),
});
const readOptions = z.object({ json: z.boolean() });

export function addParkedCommands(program: Command, { terminal, call }: Shell): void {
  const parked = program
    .command('parked')
    .description('work that the rules could not settle, and that waits for an operator');

  asRead(parked.command('list'))
    .description('what is parked, the longest first')
    .addOption(new Option('--kind <kind>', 'only these').choices(PARKED_KINDS))
    .option('--resolved', 'what is resolved instead, the latest first', false)
    .option('--limit <n>', `at most so many, up to ${LIST_MAX}`, wholeNumber, LIST_MAX)
    .addHelpText('after', '\nExamples:\n  ops parked list --kind refund\n  ops parked list --resolved --json')
    .action((options: unknown) =>
      call(async (api) => {
        const { kind, resolved, limit, json } = listOptions.parse(options);
        const query = new URLSearchParams({ limit: String(limit), ...(kind !== undefined && { kind }) });
        if (resolved) query.set('state', 'resolved');
        const { body } = await api.call(parkedListReply, `parked?${query.toString()}`);
        terminal.out(json ? toJson(body.entries) : describeList(body, terminal.columns));
        return true;
      }),
    );

  asRead(parked.command('show'))
    .description('one entry: cause, inputs, errors, decisions, and what to do')
    .argument('<id>', 'as the list shows it', rowId)
    .addHelpText('after', '\nExample:\n  ops parked show 7')
    .action((id: number, options: unknown) =>
      call(async (api) => {
        const { body } = await api.call(parkedFileReply, `parked/${id}`);
        terminal.out(readOptions.parse(options).json ? toJson(body) : describeEntry(body, terminal.columns));
        return true;
      }),
    );

  asAction(parked.command('retry'))
    .description('has the work tried again, before new work')
    .argument('<id>', 'as the list shows it', rowId)
    .addHelpText('after', `\nExample:\n  ops parked retry 7 --reason "the provider's account is topped up"`)
    .action((id: number, options: unknown) =>
      call(async (api) => {
        const { body } = await api.call(retriedReply, `parked/${id}/retry`, { body: readReason(options) });
        terminal.out(OUTCOMES[body.outcome]);
        return true;
      }),
    );

  asAction(parked.command('resolve'))
    .description('takes the entry off the list: you have settled it by hand')
    .argument('<id>', 'as the list shows it', rowId)
    .addHelpText(
      'after',
      '\nExample:\n  ops parked resolve 7 --reason "paid back by bank transfer, ticket 4711"',
    )
    .action((id: number, options: unknown) =>
      call(async (api) => {
        await api.send(`parked/${id}/resolve`, { body: readReason(options) });
        terminal.out(`${id} is resolved.`);
        return true;
      }),
    );
}

function describeList({ entries, next }: z.infer<typeof parkedListReply>, columns: number): string {
  if (entries.length === 0) return 'Nothing is parked.';
  const table = formatTable(
    ['id', 'kind', 'cause', 'since', 'times', 'reference', 'now'],
    entries.map(toRow),
    columns,
  );
  return next === null ? table : `${table}\n… and more.`;
}

function toRow(entry: Entry): string[] {
  const { parkedId, kind, cause, firstAt, times, reference, inputs } = entry;
  const { refusal } = inputs;
  const why = typeof refusal === 'string' ? `${cause} (${refusal})` : cause;
  return [String(parkedId), kind, why, ageOf(firstAt), String(times), reference, stateOf(entry)];
}

const ageOf = (at: string): string => formatAge(Date.now() - Date.parse(at));

const stateOf = ({ settledBy, resolvedAt }: Entry): string =>
  resolvedAt === null ? 'parked' : `resolved by ${settledBy ?? 'rules'}`;

function describeEntry(entry: z.infer<typeof parkedFileReply>, columns: number): string {
  const { parkedId, kind, reference, lastAt, times, firstAt, resolvedAt } = entry;
  const timeOf = (at: string): string => formatTime(new Date(at));
  const inputs = Object.entries(entry.inputs).map(([name, value]) => `${name} ${value}`);
  const fields: [string, string][] = [
    ['cause', entry.cause],
    ['inputs', inputs.join(', ') || '(none recorded)'],
    ['reason', entry.reason],
    ['last error', entry.lastError],
    ['first', `${timeOf(firstAt)} (${ageOf(firstAt)} ago)`],
    ['last', `${timeOf(lastAt)}, ${times} ${times === 1 ? 'time' : 'times'} in all`],
    ['now', resolvedAt === null ? stateOf(entry) : `${stateOf(entry)}, ${timeOf(resolvedAt)}`],
    ...entry.decisions.map(({ actor, action, reason, occurredAt }): [string, string] => [
      'decided',
      `${timeOf(occurredAt)} ${actor}: ${action}${reason === null ? '' : `, because: ${reason}`}`,
    ]),
    ...(resolvedAt === null ? [['what to do', entry.remedy] satisfies [string, string]] : []),
  ];
  return `Parked ${parkedId}: ${kind} ${reference}\n${formatFields(fields, columns)}`;
}

const logOptions = z.object({
  subject: z.string().exactOptional(),
  actor: z.string().exactOptional(),
  since: z.string().exactOptional(),
  until: z.string().exactOptional(),
  limit: z.int(),
  json: z.boolean(),
});

export function addLogCommand(program: Command, { terminal, call }: Shell): void {
  asRead(program.command('log'))
    .description('what was decided, by whom and why; the newest first')
    .option('--subject <subject>', 'about this, such as an orderNo, "parked 7" or "sale summer"')
    .option('--actor <name>', 'by this actor')
    .option('--since <time>', 'from this time on, as 2026-11-22T12:00:00Z')
    .option('--until <time>', 'before this time')
    .option('--limit <n>', `at most so many, up to ${LIST_MAX}`, wholeNumber, LIST_MAX)
    .addHelpText('after', '\nExample:\n  ops log --subject "sale summer"')
    .action((options: unknown) =>
      call(async (api) => {
        const { json, limit, ...search } = logOptions.parse(options);
        const query = new URLSearchParams({ ...search, limit: String(limit) });
        const { body } = await api.call(auditLogReply, `audit-log?${query.toString()}`);
        const rows = body.entries.map(({ occurredAt, actor, action, subject, reason }) => [
          formatTime(new Date(occurredAt)),
          actor,
          action,
          subject,
          reason ?? '',
        ]);
        terminal.out(
          json
            ? toJson(body.entries)
            : formatTable(['time (UTC)', 'who', 'did', 'to', 'because'], rows, terminal.columns),
        );
        return true;
      }),
    );
}
