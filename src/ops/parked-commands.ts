/** `ops parked`: lists and shows parked work, has it tried again, or takes it off the list. */

import { Option, type Command } from 'commander';
import { z } from 'zod';
import { nudgeWorkflow } from '../engine/order-engine.ts';
import { messageOf } from '../log.ts';
import { follow } from '../orders/follow.ts';
import { expectedHold, parseOrderNo } from '../orders/order.ts';
import { createReservations } from '../orders/reservations.redis.ts';
import { type Decision, PARKED_KINDS } from '../parked/parked.sql.ts';
import type { ParkedEntry } from '../parked/work.sql.ts';
import { putIntoOutbox } from '../redis/outbox.ts';
import { refundWorkflowId } from '../workflows/contract.ts';
import { adviceOn } from './order-commands.ts';
import type { Parts } from './parts.ts';
import type { Shell } from './parts.ts';
import {
  asAction,
  asRead,
  readDecision,
  rowId,
  wholeNumber,
  OpsError,
  formatAge,
  formatFields,
  formatTable,
  formatTime,
  hang,
  type Terminal,
} from './terminal.ts';

// Has parked work tried again: what MySQL makes due, and what Redis or Temporal have to do besides.

/** The command takes no orders, so their pace does not matter. */
const NO_ORDERS = { storesPerSecond: 1 };

/** What became of the retry, for the operator. */
interface Retried {
  isDone: boolean;
  text: string;
}

/** @throws OpsError when a store that it needs is not reachable: nothing has changed then */
async function retryParked(parts: Parts, entry: ParkedEntry, decision: Decision): Promise<Retried> {
  const outcome = await parts.mysql().parkedWork.retry(entry.parkedId, decision);
  switch (outcome) {
    case 'due':
      if (entry.kind === 'delivery')
        return done('It is due at once, after what waits of the same order; a worker delivers it.');
      return done(`It is due before all other work. ${await nudge(parts, entry)}`);
    case 'ended':
      return followNow(parts, entry, decision);
    case 'not-stored':
      return putBack(parts, entry, entry.reference, decision);
    case 'outbox':
      return putBack(parts, entry, String(entry.inputs['orderNo'] ?? ''), decision);
    case 'undecided':
      return refused(
        'Trying again changes nothing: the rules have decided what they can. `ops refund` sends the money back; `ops parked resolve` takes it off the list.',
      );
    case 'resolved':
      return done('It is not parked any more; nothing was changed.');
    case 'unknown':
      throw new OpsError(`There is no parked entry ${entry.parkedId}.`);
    default:
      return outcome satisfies never;
  }
}

/** The order has ended in MySQL. What is due of that in Redis is done at once. */
async function followNow(parts: Parts, entry: ParkedEntry, decision: Decision): Promise<Retried> {
  const stores = await parts.stores();
  const orderNo = entry.reference;
  const stored = await stores.orders.read(orderNo);
  if (!stored) throw new OpsError(`Order ${orderNo} is gone from MySQL.`);
  const followed = await follow(stores, [{ orderNo, state: stored.state }]);
  const hold = followed.get(orderNo)?.found;
  if (!hold)
    throw new OpsError(`Redis cannot end the hold of order ${orderNo}; \`ops order show\` says what it has.`);
  const { status } = stored.state;
  const isReturned = status === 'paid' && hold === 'returned';
  if (hold !== expectedHold(status) && !isReturned) {
    return refused(
      `The order is ${status}, and Redis has nothing to settle for it (${hold}). Where \`ops audit\` finds nothing wrong about it, resolve the entry.`,
    );
  }
  await stores.parkedWork.completeRetry(entry, decision);
  return done(`The order is ${status}. Its hold in Redis: ${hold}. The entry is resolved.`);
}

/** Puts an order that no relay reads any more back into the outbox, where Redis has all of it. */
async function putBack(
  parts: Parts,
  entry: ParkedEntry,
  orderNo: string,
  decision: Decision,
): Promise<Retried> {
  if (!parseOrderNo(orderNo)) return refused(`It names no order: ${orderNo || '(nothing)'}. Resolve it.`);
  const redis = await parts.redis();
  const [reserved] = await createReservations(redis, NO_ORDERS).readOrders([orderNo]);
  if (!reserved) return refused(`Redis has no whole order ${orderNo}; there is nothing to put back.`);
  // Twice does no harm, should this process die in between: storing finds the order.
  await putIntoOutbox(redis, orderNo);
  await parts.mysql().parkedWork.completeRetry(entry, decision);
  return done(`Order ${orderNo} is in the outbox again, and the entry is resolved.`);
}

/** A step that waits for its next try, up to ten minutes away, is tried at once. */
async function nudge(parts: Parts, { kind, reference }: ParkedEntry): Promise<string> {
  const workflowIds =
    kind === 'order'
      ? [reference]
      : (await parts.mysql().parkedWork.listPayments(reference)).map(refundWorkflowId);
  try {
    const client = await parts.temporal();
    let nudged = 0;
    for (const workflowId of workflowIds) nudged += await nudgeWorkflow(client, workflowId);
    return nudged > 0 ? 'Its failing step is tried at once.' : 'No step of a workflow was waiting.';
  } catch (error) {
    return `A failing step could not be hurried, and goes on at its own pace: ${messageOf(error)}`;
  }
}

function done(text: string): Retried {
  return { isDone: true, text };
}

function refused(text: string): Retried {
  return { isDone: false, text };
}

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
  const { refusal } = entry.inputs;
  const why = typeof refusal === 'string' ? `${cause} (${refusal})` : cause;
  const row = [String(parkedId), kind, why, since, String(times), reference];
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
