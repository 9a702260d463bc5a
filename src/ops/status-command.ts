/** `ops status`: what waits, which workers live, and first what is wrong, on one screen. */

import type { Command } from 'commander';
import { z } from 'zod';
import { createStatusBoard, inTime, statusReaders } from '../status/board.ts';
import { findWrong, type Finding } from '../status/findings.ts';
import { stateOf, sumOf, type PartialStatus, type Waiting } from '../status/status.ts';
import { redisStores } from '../stores/bound.ts';
import type { Parts, Shell } from './parts.ts';
import { asRead, formatAge, formatFields, formatTable, hang } from './terminal.ts';

/** What does not answer within it is away, in ms: the screen is there within two seconds. */
const ANSWER_WITHIN_MS = 1_700;

const statusOptions = z.object({ json: z.boolean() });

export function addStatusCommand(program: Command, { terminal, run }: Shell): void {
  asRead(program.command('status'))
    .description('what is wrong, what waits, and which workers live; exit code 1 when something is wrong')
    .addHelpText('after', '\nExample:\n  ops status')
    .action((options: unknown) =>
      run(async (parts) => {
        const { json } = statusOptions.parse(options);
        const [status, isTemporalUp] = await Promise.all([readStatus(parts), askTemporal(parts)]);
        const wrong = findWrong(status, isTemporalUp);
        terminal.out(
          json
            ? JSON.stringify({ wrong, isTemporalUp, ...status }, undefined, 2)
            : describeStatus(status, wrong, terminal.columns),
        );
        return wrong.length === 0;
      }),
    );
}

/** Those of the parts that are there within the time. */
async function readStatus(parts: Parts): Promise<PartialStatus> {
  const redis = parts.redisAsItIs().then(redisStores);
  redis.catch(() => {});
  const board = createStatusBoard(statusReaders(() => redis, parts.mysql()));
  await inTime(board.look(), ANSWER_WITHIN_MS).catch(() => {});
  return board.all();
}

async function askTemporal(parts: Parts): Promise<boolean> {
  const asked = parts.temporal().then(({ connection }) => connection.workflowService.getSystemInfo({}));
  return inTime(asked, ANSWER_WITHIN_MS).then(
    () => true,
    () => false,
  );
}

function describeStatus(status: PartialStatus, wrong: readonly Finding[], columns: number): string {
  return [
    wrong.length === 0 ? 'Nothing is wrong.' : describeWrong(wrong, columns),
    `What waits\n${describeWaiting(status, columns)}`,
    `Workers\n${describeWorkers(status, columns)}`,
  ].join('\n\n');
}

function describeWrong(wrong: readonly Finding[], columns: number): string {
  const lines = wrong.map(
    ({ what, remedy }) => `${hang('  ', what, columns)}\n${hang('    → ', remedy, columns)}`,
  );
  return `Wrong\n${lines.join('\n')}`;
}

const UNKNOWN = 'not known';

function describeWaiting(
  { outboxes, slots, backlog, parked, drift, events, endpoints }: PartialStatus,
  columns: number,
): string {
  const describe = (waiting: Waiting | undefined): string => {
    if (!waiting) return UNKNOWN;
    return waiting.waiting === 0 ? '0' : `${waiting.waiting}, the oldest ${formatAge(waiting.oldestMs ?? 0)}`;
  };
  const parkedKinds = parked?.map((each) => `${each.kind} ${describe(each)}`).join('; ');
  return formatFields(
    [
      ['accepted, not stored', describe(outboxes && sumOf(outboxes))],
      ['stored, not begun', describe(backlog?.notBegun)],
      ['payments on their way', describe(backlog?.payments)],
      ['refunds due', backlog ? String(backlog.refunds) : UNKNOWN],
      ['engine slots taken', slots === undefined ? UNKNOWN : String(slots)],
      ['parked', parkedKinds === undefined ? UNKNOWN : parkedKinds || '0'],
      ['events without number', events ? String(events.waiting) : UNKNOWN],
      ...(events?.consumers ?? []).map(({ name, lag }): [string, string] => [
        `consumer ${name}`,
        `${lag} behind`,
      ]),
      ...(endpoints ?? []).map(({ name, health }): [string, string] => [
        `endpoint ${name}`,
        `${health.waiting} waiting, ${health.behind} behind`,
      ]),
      ['stores compared', describeCompared(drift)],
    ],
    columns,
  );
}

function describeCompared(drift: PartialStatus['drift']): string {
  if (drift === undefined) return UNKNOWN;
  if (drift === null) return 'never';
  const when = `${formatAge(Date.now() - drift.lookedAtMs)} ago`;
  return drift.entries.length === 0 ? when : `${when}, ${drift.entries.length} differences`;
}

function describeWorkers({ workers }: PartialStatus, columns: number): string {
  if (!workers) return `  ${UNKNOWN}`;
  if (workers.length === 0) return '  none';
  const rows = workers.map((worker) => [
    stateOf(worker),
    formatAge(worker.silentMs),
    worker.host,
    String(worker.pid),
    worker.build || '-',
    worker.url,
  ]);
  return formatTable(['state', 'seen', 'host', 'pid', 'build', 'probe'], rows, columns);
}
