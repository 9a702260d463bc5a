/**
 * `npm run load -- --requests 1000 --concurrency 64 [--url http://127.0.0.1:3000] [--sale ID] [--token JWT]`:
 * buys at a running Holdfast and prints requests, successes, failures, mean response time and rate.
 */

import { parseArgs } from 'node:util';
import { readAddresses } from '../../stack/addresses.ts';
import { bar, createLiveLine } from '../live-line.ts';
import { LoadTestError, runLoadTest, type LoadTestReport } from './load-test.ts';

const DEFAULT_URL = 'http://127.0.0.1:3000';
const USAGE =
  'Usage: npm run load -- [--requests 1000] [--concurrency 64] [--url http://127.0.0.1:3000] [--sale ID] [--token JWT]';
/** A redraw for each answer would cost more than the answer. */
const REDRAW_EVERY_MS = 100;

try {
  const options = parseOptions(process.argv.slice(2));
  const line = createLiveLine(process.stdout);
  line.print(`${options.requests} purchases, ${options.concurrency} at a time, at ${options.url}`);
  let drawnMs = 0;
  const report = await runLoadTest({
    ...options,
    onProgress({ what, done, of }) {
      if (performance.now() - drawnMs < REDRAW_EVERY_MS) return;
      drawnMs = performance.now();
      line.show(`${bar(done / of)} ${done} of ${of} ${what}`);
    },
  });
  line.print(describe(report));
} catch (error) {
  if (!(error instanceof LoadTestError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

function parseOptions(args: string[]) {
  const { values } = parse(args);
  return {
    url: values.url ?? readAddresses()?.apiUrl ?? DEFAULT_URL,
    requests: wholeNumber('--requests', values.requests ?? '1000'),
    concurrency: wholeNumber('--concurrency', values.concurrency ?? '64'),
    token: values.token,
    saleId: values.sale,
  };
}

function parse(args: string[]) {
  const text = { type: 'string' } as const;
  try {
    return parseArgs({
      args,
      options: { requests: text, concurrency: text, url: text, sale: text, token: text },
    });
  } catch (error) {
    throw new LoadTestError(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
  }
}

function wholeNumber(flag: string, text: string): number {
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1)
    throw new LoadTestError(`${flag} takes a whole number, 1 or more`);
  return number;
}

function describe(report: LoadTestReport): string {
  const { requests, successes, failures, answers, seconds, rate, saleId, sku, available } = report;
  const { meanMs, p50Ms, p99Ms, maxMs, cpuSeconds } = report;
  const ms = (value: number): string => `${value.toFixed(1)} ms`;
  const refusals = answers.filter(({ name }) => name !== 'accepted');
  const rows: [string, string][] = [
    ['requests', String(requests)],
    ['successes', String(successes)],
    ['failures', [failures, ...refusals.map(({ name, count }) => `${count} × ${name}`)].join('   ')],
    ['mean response time', `${ms(meanMs)}   (p50 ${ms(p50Ms)}, p99 ${ms(p99Ms)}, longest ${ms(maxMs)})`],
    ['rate', `${rate.toFixed(0)}/s   (${seconds.toFixed(2)} s)`],
  ];
  return [
    ...rows.map(([name, value]) => `  ${name.padEnd(20)}${value}`),
    '',
    `  The sale "${saleId}" had ${available} of "${sku}" left at the start. This command itself used ` +
      `${((100 * cpuSeconds) / seconds).toFixed(0)} % of a core.`,
  ].join('\n');
}
