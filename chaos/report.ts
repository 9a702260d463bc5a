/** Prints what a trial showed as a table, and each thing that was wrong as a line. */

import { RULE_NAMES } from '../src/audit/run-audit.ts';
import { CHECK_NAMES } from './history.ts';
import type { RollingReport } from './rolling.ts';
import type { StormReport } from './storm.ts';
import type { TrialReport } from './trial.ts';

/** A broken rule may concern thousands of orders; the first ones say enough. */
const LINES_MAX = 50;

/** What a trial found wrong, a line each; it passed when there is none. */
function faultsFound({ neighbour, ...own }: TrialReport): string[] {
  const { ends, unrest, parked } = own;
  const open = ends.get('open') ?? 0;
  const openBeside = neighbour.ends.get('open') ?? 0;
  return [
    ...untruths(own),
    ...untruths(neighbour).map((fault) => `beside it: ${fault}`),
    ...(openBeside === 0 ? [] : [`beside it: ${openBeside} orders had not ended`]),
    ...parked.others.map((work) => `parked: ${work}`),
    ...unrest.map((moving) => `the money had not come to rest in time: ${moving}`),
    ...(open === 0 ? [] : [`${open} orders had not ended when the last shopper stopped trying`]),
  ];
}

function untruths({ violations, audits }: Pick<TrialReport, 'violations' | 'audits'>): string[] {
  return [
    ...violations.map(({ check, subject, detail }) => `${check}: ${subject}: ${detail}`),
    ...audits.flatMap(({ findings }) =>
      findings.map(({ rule, subject, detail }) => `${rule}: ${subject}: ${detail}`),
    ),
  ];
}

export function faultsOfStorm(report: StormReport): string[] {
  const stuck = report.struck.filter(({ recoveredMs }) => recoveredMs === undefined);
  return [...faultsFound(report), ...stuck.map(({ name }) => `not recovered from: ${name}`)];
}

/** A rolling restart is correct when a client that repeats what was not answered sees no failure. */
export function faultsOfRolling(report: RollingReport): string[] {
  const { unanswered } = report.calls;
  return [
    ...faultsFound(report),
    ...(unanswered === 0 ? [] : [`${unanswered} calls failed although they were repeated`]),
  ];
}

export function printStorm(report: StormReport): void {
  const kinds = [...new Set(report.struck.map(({ name }) => name))].toSorted();
  console.table(kinds.map((kind) => toRow(kind, report)));
  const calm = seconds(report.calmMs ?? Infinity);
  console.log(
    `${report.struck.length} faults; without a fault the probe that measures a recovery takes ${calm} s`,
  );
}

export function printRolling({ restarts }: RollingReport): void {
  console.table(
    restarts.map(({ name, stoppedMs, readyMs }) => ({
      process: name,
      'ended after SIGTERM (ms)': stoppedMs,
      'ready again (ms)': readyMs,
    })),
  );
}

export function printTrial(report: TrialReport, crashes: readonly string[], faults: readonly string[]): void {
  const { audits, violations, stockLooks, history, calls, books, parked, backOffice, neighbour } = report;
  const sum = (of: (audit: TrialReport['audits'][number]) => number) =>
    audits.reduce((total, audit) => total + of(audit), 0);
  const lines = [
    `asked to buy:  ${describe(report.answers)}`,
    `orders ended:  ${describe(report.ends)}`,
    `calls:         ${calls.made}, of which ${calls.repeated} had to be repeated and ${calls.unanswered} had no answer in time; the longest took ${calls.longestMs} ms with its repeats`,
    `processes that ended by themselves and were started again: ${crashes.length === 0 ? 'none' : crashes.join(', ')}`,
    `mischief:      ${describe(new Map(Object.entries(report.mischief)))}`,
    `its staff:     ${describe(report.byStaff)}`,
    `the shop:      ${describe(report.byShop)}`,
    `its book:      ${describeSum(books.collected)} collected, ${describeSum(books.returned)} returned`,
    `our book:      ${[...books.known].map(([status, known]) => `${describeSum(known)} ${status}`).join(', ')}; ${describeSum(books.knownReturned)} returned; ${describeSum(books.shown)} not parked, and shown to an operator`,
    `parked:        ${describe(parked.onPurpose) || 'nothing'} on purpose, ${parked.others.length} others`,
    `the stock equation was looked at ${stockLooks} times in each store`,
    `waited:        ${history.stored} orders were answered as stored, ${history.timedOut} were given up`,
    `watched:       ${history.polled} changes told by long polls, ${history.events} by events, ${history.resumed} streams come back to`,
    `the history:   ${history.answers} answers about orders, ${history.soldOut} times sold out, ${violations.length} violations (${CHECK_NAMES.join(', ')})`,
    `back office:   away for ${seconds(backOffice.awayMs)} s, and ${seconds(backOffice.caughtUpMs)} s later it knew all; ${backOffice.pulled} changes of orders pulled, ${backOffice.pushed} pushed; ${backOffice.notices.pulled} deadlines announced`,
    `the audit:     ${sum(({ orders }) => orders)} orders, ${sum(({ payments }) => payments)} payments, ${sum(({ findings }) => findings.length)} findings (${RULE_NAMES.join(', ')})`,
    `beside it:     another deployment accepted ${neighbour.accepted} orders: ${describe(neighbour.ends)}`,
    ...faults.slice(0, LINES_MAX).map((fault) => `  ${fault}`),
    faults.length === 0 ? 'passed' : `FAILED: ${faults.length} faults found`,
  ];
  console.log(lines.join('\n'));
}

/**
 * An order is lost when Redis lost it before it was stored, and was said so. One that was in flight has
 * vanished when it ended in no way, and is doubled when it ended in more than one.
 */
function toRow(fault: string, { struck: all, finals, lost, unrecorded }: StormReport) {
  const struck = all.filter(({ name }) => name === fault);
  const inFlight = [...new Set(struck.flatMap(({ inFlight: orders }) => orders))];
  const endsOf = (orderNo: string): number => finals.get(orderNo) ?? 0;
  const recovered = struck.map(({ recoveredMs = Infinity }) => recoveredMs / 1_000).toSorted((a, b) => a - b);
  return {
    fault,
    count: struck.length,
    'orders in flight': inFlight.length,
    'recovered in (s, median)': recovered[Math.floor(recovered.length / 2)]?.toFixed(1),
    'recovered in (s, longest)': recovered.at(-1)?.toFixed(1),
    lost: [...lost].reduce((sum, [loss, count]) => sum + (loss.name === fault ? count : 0), 0),
    vanished: inFlight.filter((orderNo) => endsOf(orderNo) === 0 && !unrecorded.has(orderNo)).length,
    doubled: inFlight.filter((orderNo) => endsOf(orderNo) > 1).length,
  };
}

function seconds(ms: number): string {
  return (ms / 1_000).toFixed(1);
}

/** Minor units as the sale's currency has them. */
function describeSum({ count, amount }: { count: number; amount: number }): string {
  return `${count} payments of ${(amount / 100).toFixed(2)} EUR`;
}

function describe(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([what, count]) => `${count} ${what}`).join(', ');
}
