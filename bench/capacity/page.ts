/** Renders the measured blocks of docs/capacity.md, between their markers, and the chart beside them. */

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { START_SHARE } from '../../src/redis/budget.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { renderChart } from '../compare/chart.ts';
import { readSteps } from '../compare/costs.ts';
import { mediansOf, type Medians } from '../compare/judgement.ts';
import { resultsFile } from '../compare/page.ts';
import type { Figures } from '../compare/part.ts';
import { readResults, type PartResult, type Results } from '../compare/results.ts';
import { alignTable, formatFigure, type Cell } from '../compare/tables.ts';
import { FATES as ACTION_FATES } from './actions.ts';
import { STAGES } from './bytes.ts';
import { LIVES } from './life.ts';
import {
  byProcess,
  needOf,
  PROCESSES,
  type Assumptions,
  type Need,
  type OrderCosts,
  type Process,
} from './needs.ts';

const pageFile = join(repoDir, 'docs', 'capacity.md');
export const capacityFile = join(repoDir, 'docs', 'benchmarks', 'capacity.json');
const chartFile = join(repoDir, 'docs', 'benchmarks', 'capacity-scale.svg');

const RATES = [1_000, 10_000, 100_000];
/** Half are paid, as many as a sale can count on; the page says how to reckon with others. */
const ASSUMED: Assumptions = {
  paidShare: 0.5,
  fullest: 0.7,
  minutesADay: 60,
  daysAMonth: 30,
  windowSeconds: 30 * 60,
  beginWithin: 1 / 3,
  startShare: START_SHARE,
  cloudActionsPerSecond: 500,
  mysqlCores: 2,
};

/** @returns the files that it wrote */
export function writeCapacityPage(results: Results): string[] {
  const text = withBlocks(readFileSync(pageFile, 'utf8'), blocksOf(results, readResults(resultsFile)));
  writeFileSync(pageFile, text);
  const chart = scaleChart(results);
  if (chart !== undefined) writeFileSync(chartFile, chart);
  return [pageFile, chartFile];
}

/** @returns the page with each block that was measured; another stays as it is */
function withBlocks(page: string, blocks: Record<string, readonly string[] | undefined>): string {
  let text = page;
  for (const [name, lines] of Object.entries(blocks)) {
    if (lines === undefined) continue;
    const [begin, end] = [`<!-- capacity: ${name} -->`, '<!-- capacity: end -->'];
    const [before = '', from, ...others] = text.split(begin);
    assert(from !== undefined && others.length === 0, `docs/capacity.md has "${begin}" once`);
    const endAt = from.indexOf(end);
    assert(endAt >= 0, `"${begin}" has its "${end}"`);
    text = `${before}${begin}\n\n${lines.join('\n')}\n\n${from.slice(endAt)}`;
  }
  return text;
}

/** Undefined where a part of it was not measured. */
function blocksOf(capacity: Results, compare: Results): Record<string, readonly string[] | undefined> {
  const costs = readCosts(capacity, compare);
  const needs = costs && RATES.map((rate) => needOf(rate, costs, ASSUMED));
  return {
    needs: needs && needsTable(needs),
    reach: needs && reachTable(needs),
    first: needs && firstTable(needs),
    costs: costs && costsTable(costs),
    bytes: partTable(capacity, 'bytes'),
    actions: partTable(capacity, 'actions'),
    life: partTable(capacity, 'life'),
    'hand-off': partTable(capacity, 'hand-off'),
    scale: scaleTable(capacity),
    binlog: partTable(capacity, 'binlog'),
    measured: measuredTable(capacity),
  };
}

/** Undefined until all that it takes was measured. */
function readCosts(capacity: Results, compare: Results): OrderCosts | undefined {
  const of = (part: string): Medians =>
    mediansOf(capacity.parts.find(({ name }) => name === part)?.measurements ?? []);
  const [life, bytes, actions] = [of('life'), of('bytes'), of('actions')];
  const steps = readSteps(compare);
  const engine = compare.parts.find(({ name }) => name === 'engine');
  const livesPerSecond = mediansOf(engine?.measurements ?? []).get('Holdfast')?.['lives'];
  const [paid, begun] = [life.get(LIVES.paid), life.get(LIVES.unpaid)];
  const [paidBytes, endedBytes] = [bytes.get(STAGES.pushed), bytes.get(STAGES.ended)];
  if (!paid || !begun || !paidBytes || !endedBytes || actions.size === 0) return undefined;
  if (steps.length === 0 || livesPerSecond === undefined) return undefined;
  const sumOf = (parts: readonly string[]) =>
    byProcess((name) =>
      steps.reduce((sum, { part, costs }) => sum + (parts.includes(part) ? (costs[name] ?? 0) : 0), 0),
    );
  const actionsOf = (fate: string): number => actions.get(fate)?.['actions'] ?? NaN;
  return {
    cpuUs: {
      // At full load; no part of the comparison has the payment's calls of the API.
      paid: { ...sumOf(['accept', 'engine']), api: paid['api'] ?? NaN },
      begun: byProcess((name) => begun[name] ?? NaN),
      neverBegun: sumOf(['accept', 'payable', 'ending']),
    },
    actions: {
      paid: actionsOf(ACTION_FATES.paid),
      begun: actionsOf(ACTION_FATES.unpaid),
      neverBegun: actionsOf(ACTION_FATES.neverBegun),
    },
    reconcileActions: actionsOf(ACTION_FATES.reconcile),
    bytes: { paid: toBytes(paidBytes), neverBegun: toBytes(endedBytes) },
    livesPerSecond,
    slotMs: { begun: begun['slotMs'] ?? NaN, paid: (paid['slotMs'] ?? NaN) - (begun['slotMs'] ?? NaN) },
  };
}

function toBytes({ redis = NaN, mysql = NaN, redo = NaN, binlog = NaN, aof = NaN }: Figures) {
  return { redis, mysql, redo, binlog, aof };
}

const left = (text: string): Cell => ({ text, align: 'left' });
const right = (text: string): Cell => ({ text, align: 'right' });
const number = (value: number, digits = 0, unit = ''): string => formatFigure(value, { unit, digits });
/** To two digits, at least: what is extrapolated is no more exact. */
const rough = (value: number, unit = ''): string =>
  number(value, value < 0.1 ? 3 : value < 1 ? 2 : value < 10 ? 1 : 0, unit);
const percent = (share: number): string => `${number(100 * share, share < 0.1 && share > 0 ? 1 : 0)} %`;

const PROCESS_NAMES: Record<Process, string> = {
  api: 'API',
  worker: 'worker',
  redis: 'Redis',
  mysql: 'MySQL',
  temporal: 'Temporal',
};

function ratesTable(
  needs: readonly Need[],
  rows: readonly (readonly [string, (need: Need) => string, string])[],
) {
  const header = [
    left('orders a minute'),
    ...needs.map(({ perMinute }) => right(number(perMinute))),
    left('from'),
  ];
  return alignTable([
    header,
    ...rows.map(([what, of, from]) => [left(what), ...needs.map((need) => right(of(need))), left(from)]),
  ]);
}

function needsTable(needs: readonly Need[]): string[] {
  const core = (name: Process) => (need: Need) => rough(need.cores[name]);
  return ratesTable(needs, [
    ['orders a second', ({ perSecond }) => rough(perSecond), 'o'],
    [
      'API processes',
      ({ apis, cores }) => `${apis} (${rough(cores.api)} cores)`,
      'x: o × c, a core each, 70 % full, two at least',
    ],
    ['workers', ({ workers, cores }) => `${workers} (${rough(cores.worker)} cores)`, 'x: the same'],
    ['Redis, cores', core('redis'), 'x: o × c; one thread, so at most 1'],
    ['Redis, memory', ({ redisGb }) => rough(redisGb, 'GB'), "x: twice a day's orders × b"],
    ['MySQL, cores', core('mysql'), 'x: o × c'],
    ['MySQL, tables a day', ({ mysqlGbADay }) => rough(mysqlGbADay, 'GB'), "x: a day's orders × b"],
    ['MySQL, binary log a day', ({ binlogGbADay }) => rough(binlogGbADay, 'GB'), 'x: the same'],
    [
      'written to logs',
      ({ logMbPerSecond }) => rough(logMbPerSecond, 'MB/s'),
      'x: o × b of redo, binary log and append-only file',
    ],
    ['Temporal, self-hosted, cores', core('temporal'), 'x: o × c, its database aside'],
    [
      'Temporal, actions a second, a workflow for each paid order',
      ({ actionsPerSecond }) => rough(actionsPerSecond.paidAlone),
      'x: o × a',
    ],
    ['the same, for each order', ({ actionsPerSecond }) => rough(actionsPerSecond.allBegun), 'x: o × a'],
    [
      'Temporal, million actions a month, a workflow for each paid order',
      ({ millionActionsAMonth }) => rough(millionActionsAMonth.paidAlone),
      'x: a month of such days × a',
    ],
    [
      'the same, for each order',
      ({ millionActionsAMonth }) => rough(millionActionsAMonth.allBegun),
      'x: the same',
    ],
    [
      '`ENGINE_BUDGET`, for each order',
      ({ engineBudget }) => number(engineBudget),
      'x: 2 × o × s, 40 at least',
    ],
  ]);
}

function reachTable(needs: readonly Need[]): string[] {
  const begun =
    (of: (need: Need) => number) =>
    (need: Need): string =>
      percent(of(need));
  const how = 'x: the lives that the engine has room for';
  return ratesTable(needs, [
    ['a rush of one minute, the engine that was measured', begun(({ measured }) => measured.rush), how],
    ["the same, Temporal Cloud's default", begun(({ cloud }) => cloud.rush), how],
    ['an hour at this pace, the engine that was measured', begun(({ measured }) => measured.hour), how],
    ["the same, Temporal Cloud's default", begun(({ cloud }) => cloud.hour), how],
  ]);
}

function firstTable(needs: readonly Need[]): string[] {
  const at =
    (place: number) =>
    ({ load }: Need): string => {
      const [what, share] = [load[place]?.what ?? '', load[place]?.share ?? 0];
      return share >= 1
        ? `**${what}: ${number(share, share < 10 ? 1 : 0)} ×**`
        : `${what}: ${percent(share)}`;
    };
  const places = needs[0]?.load.map((_, place) => place) ?? [];
  return ratesTable(
    needs,
    places.map((place) => [
      place === 0 ? 'the fullest' : 'then',
      at(place),
      place === 0 ? 'x: of one of each, by the table above' : 'x: the same',
    ]),
  );
}

function costsTable({ cpuUs, actions, bytes }: OrderCosts): string[] {
  const header = [
    left('fate'),
    ...PROCESSES.map((name) => right(`${PROCESS_NAMES[name]}, µs`)),
    right('actions'),
    right('Redis, B'),
    right('MySQL, B'),
    left('measured by'),
  ];
  const row = (
    fate: keyof OrderCosts['cpuUs'],
    what: string,
    kept: OrderCosts['bytes']['paid'],
    by: string,
  ) => [
    left(what),
    ...PROCESSES.map((name) => right(number(cpuUs[fate][name]))),
    right(number(actions[fate])),
    right(number(kept.redis)),
    right(number(kept.mysql)),
    left(by),
  ];
  return alignTable([
    header,
    row('paid', 'begun, paid by its page', bytes.paid, 'm: accept + engine, API by life'),
    row('begun', 'begun, not paid', bytes.neverBegun, 'm: life'),
    row('neverBegun', 'never begun: MySQL ends it', bytes.neverBegun, 'm: accept + payable + ending'),
  ]);
}

function partTable({ parts }: Results, name: string): string[] | undefined {
  const part = parts.find((each) => each.name === name);
  if (part === undefined) return undefined;
  const { about, contestants, columns, measurements, notes } = part;
  const medians = mediansOf(measurements);
  return [
    about,
    '',
    ...alignTable([
      [left(''), ...columns.map(({ label }) => right(label))],
      ...contestants.map(({ name: contestant }) => [
        left(contestant),
        ...columns.map((column) => right(formatFigure(medians.get(contestant)?.[column.key], column))),
      ]),
    ]),
    ...(notes.length === 0 ? [] : ['', ...notes.map((note) => `- ${note}`)]),
  ];
}

const COUNTS = ['one', 'two', 'four'];

/** One row a part: the rate of one process, and how many times as much two and four did. */
function scaleTable({ parts }: Results): string[] | undefined {
  const scaled = parts.filter(({ name }) => /-(?:held|far)$/.test(name));
  if (scaled.length === 0) return undefined;
  const header = [
    'by one, two and four',
    ...COUNTS,
    'two : one',
    'four : one',
    'busy, each',
    'all cores',
    'wait for a row',
  ];
  const rows = scaled.map((part) => {
    const figures = figuresByCount(part);
    const [column] = part.columns;
    assert(column);
    const rates = figures.map((each) => each[column.key]);
    const times = (i: number): string => `${number((rates[i] ?? NaN) / (rates[0] ?? NaN), 2)} ×`;
    const shares = (key: string, digits = 0): string =>
      figures.map((each) => formatFigure(each[key], { unit: '', digits })).join(', ');
    return [
      left(`${part.title}: ${column.label}`),
      ...rates.map((rate) => right(formatFigure(rate, column))),
      right(times(1)),
      right(times(2)),
      right(`${shares('each')} %`),
      right(`${shares('machine')} %`),
      right(shares('waiting', 1)),
    ];
  });
  return alignTable([header.map((text, i) => (i === 0 ? left(text) : right(text))), ...rows]);
}

function figuresByCount({ contestants, measurements }: PartResult): Figures[] {
  const medians = mediansOf(measurements);
  return contestants.map(({ name }) => medians.get(name) ?? {});
}

/** How many times as much as one process does. */
function scaleChart({ parts }: Results): string | undefined {
  const scaled = parts.filter(({ name }) => /-(?:held|far)$/.test(name));
  if (scaled.length === 0) return undefined;
  const bars = scaled.flatMap((part) => {
    const [one, ...more] = figuresByCount(part).map((each) => each[part.columns[0]?.key ?? ''] ?? NaN);
    return more.map((rate, i) => ({
      name: `${COUNTS[i + 1] ?? ''}: ${part.title}`,
      role: i === 0 ? ('variant' as const) : ('ours' as const),
      times: rate / (one ?? NaN),
    }));
  });
  return renderChart({
    title: 'More processes',
    column: { key: 'times', label: 'times what one does', unit: '×', digits: 2 },
    contestants: bars,
    medians: new Map(bars.map(({ name, times }) => [name, { times }])),
  });
}

function measuredTable({ parts }: Results): string[] | undefined {
  if (parts.length === 0) return undefined;
  const rows = parts.map(({ name, measuredAt, commit, rounds, machine: { cpu, cores, memoryGb } }) => [
    left(name),
    left(measuredAt.slice(0, 10)),
    left(commit),
    right(String(rounds)),
    left(`${cpu}, ${cores} cores, ${memoryGb} GB`),
  ]);
  return alignTable([[left('part'), left('day'), left('commit'), right('rounds'), left('machine')], ...rows]);
}
