/** `ops status`: what waits, which workers live, and first what is wrong, on one screen. */

import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { z } from 'zod';
import { formatAge, formatTime, SYSTEM_CLOCK } from '../clock.ts';
import { TOOL_WAITS } from '../limits.ts';
import { createStatusBoard, inTime, onceAtATime, statusReaders } from '../status/board.ts';
import { findSlow, findWrong, type Finding } from '../status/findings.ts';
import { stateOf, sumOf, type PartialStatus, type Waiting } from '../status/status.ts';
import { redisStores } from '../stores/bound.ts';
import { readLoad } from '../tool.ts';
import type { Parts, Shell } from './parts.ts';
import { asRead, formatFields, formatTable, hang, withProgress, type Terminal } from './terminal.ts';

/** What does not answer within it is away: the screen is there by then. */
const ANSWER_WITHIN_MS = TOOL_WAITS.answerMs;
/** What the look before has read is not shown once this one has waited for as long. */
const FRESH_MS = ANSWER_WITHIN_MS + 1_000;

/** Between two looks of `--watch`: a look costs the stores some queries. In ms. */
const LOOK_EVERY_MS = 2_000;

const statusOptions = z.object({ json: z.boolean(), watch: z.boolean() });

export function addStatusCommand(program: Command, { terminal, run }: Shell): void {
  asRead(program.command('status'))
    .description('what is wrong, what waits, and which workers live; exit code 1 when something is wrong')
    .option(
      '--watch',
      'look again every two seconds, until Ctrl-C; the exit code is that of the last look',
      false,
    )
    .addHelpText('after', '\nExamples:\n  ops status\n  ops status --watch')
    .action((options: unknown) =>
      run(async (parts) => {
        const { json, watch } = statusOptions.parse(options);
        const look = createLook(parts);
        if (!watch) {
          const { status, isTemporalUp, wrong } = await withProgress(terminal, 'asking', look);
          terminal.out(
            json
              ? JSON.stringify({ wrong, isTemporalUp, ...status }, undefined, 2)
              : describeStatus(status, wrong, terminal.columns),
          );
          return wrong.length === 0;
        }
        return watchStatus(look, { terminal, json });
      }),
    );
}

/** A program gets a line a look. @returns whether all was well at the last look */
async function watchStatus(
  look: () => Promise<Look>,
  { terminal, json }: { terminal: Terminal; json: boolean },
): Promise<boolean> {
  const screen = terminal.openScreen();
  let isWell = true;
  try {
    while (!screen.stopped.aborted) {
      const { status, isTemporalUp, wrong } = await look();
      isWell = wrong.length === 0;
      screen.show(
        json
          ? JSON.stringify({ wrong, isTemporalUp, ...status })
          : `${formatTime(new Date())} UTC\n\n${describeStatus(status, wrong, terminal.columns)}\n`,
      );
      await delay(LOOK_EVERY_MS, undefined, { signal: screen.stopped }).catch(() => {});
    }
  } finally {
    screen.close();
  }
  return isWell;
}

interface Look {
  status: PartialStatus;
  isTemporalUp: boolean;
  wrong: Finding[];
}

/** What one look still waits for, the next one waits for too: nothing is asked twice at a time. */
function createLook(parts: Parts): () => Promise<Look> {
  const readers = statusReaders(
    () => parts.redisAsItIs().then(redisStores),
    parts.mysql(),
    ANSWER_WITHIN_MS / 2,
  );
  const board = createStatusBoard(readers, SYSTEM_CLOCK, FRESH_MS);
  const lookAtStores = onceAtATime(() => board.look());
  const askTemporal = onceAtATime(async () => {
    const { connection } = await parts.temporal();
    await connection.withDeadline(Date.now() + ANSWER_WITHIN_MS, () =>
      connection.workflowService.getSystemInfo({}),
    );
  });
  /** Whether it is there within the time. */
  const isInTime = (answer: Promise<void>): Promise<boolean> =>
    inTime(answer, ANSWER_WITHIN_MS).then(
      () => true,
      () => false,
    );
  return async () => {
    const [isTemporalUp] = await Promise.all([isInTime(askTemporal()), isInTime(lookAtStores())]);
    const status = board.all();
    const tookMs = {
      // The first read of each store, which also connects.
      Redis: status.redisTakesWrites === undefined ? undefined : board.tookMs('redisTakesWrites'),
      MySQL: status.mysqlTakesWrites === undefined ? undefined : board.tookMs('mysqlTakesWrites'),
    };
    return {
      status,
      isTemporalUp,
      wrong: [...findSlow(tookMs, readLoad()), ...findWrong(status, isTemporalUp)],
    };
  };
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
  { outboxes, slots, memory, backlog, parked, drift, events, endpoints, api }: PartialStatus,
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
      ...describeMemory(memory),
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
      ['tokens of 5 min', describeTokens(api)],
    ],
    columns,
  );
}

function describeTokens(api: PartialStatus['api']): string {
  if (api === undefined) return UNKNOWN;
  const counts = Object.entries(api.tokens).map(([outcome, { count }]) => `${count} ${outcome}`);
  return counts.join(', ') || '0';
}

function describeMemory(memory: PartialStatus['memory']): [string, string][] {
  if (!memory) return [['memory of Redis', UNKNOWN]];
  const inMib = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  return memory.map(({ node, usedBytes, maxBytes, isBounded }) => {
    const bound = maxBytes === null ? '' : ` of ${inMib(maxBytes)}${isBounded ? '' : ', no maxmemory'}`;
    return [`memory of ${node}`, `${inMib(usedBytes)}${bound}`];
  });
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
