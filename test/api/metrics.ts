/** Reads a process's metrics as Prometheus does. */

import assert from 'node:assert/strict';
import type { Metrics } from '../../src/metrics.ts';
import { send } from '../support/shopper.ts';

// A lag that nothing was measured of yet is `Nan`; Prometheus takes it in any case of letters.
const COMMENT = /^# (?:HELP \w+ .+|TYPE \w+ (?:counter|gauge|histogram|summary))$/;
const SAMPLE = /^(\w+(?:\{\w+="[^"]*"(?:,\w+="[^"]*")*\})?) (-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|Nan|[+-]Inf)$/;

/** @returns each sample's value by its name with labels, say `holdfast_shed_total{lane="others"}` */
export async function scrape(url: string): Promise<Map<string, number>> {
  const { status, body } = await send(`${url}/metrics`, 'GET');
  assert.equal(status, 200);
  assert(typeof body === 'string' && body.endsWith('\n'), 'the last line ends too');
  const lines = body.split('\n').filter((line) => line !== '' && !COMMENT.test(line));
  return new Map(
    lines.map((line) => {
      const [, name, value] = SAMPLE.exec(line) ?? [];
      assert(name, `no sample: ${line}`);
      return [name, Number(value)];
    }),
  );
}

/** The samples of one metric, by the value of its only label. */
export async function scrapeCounter(url: string, name: string): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const [sample, value] of await scrape(url)) {
    const label = sample.startsWith(`${name}{`) ? /="(.*)"/.exec(sample)?.[1] : undefined;
    if (label !== undefined) counts[label] = value;
  }
  return counts;
}

/** The lines of the samples whose names begin so, of metrics that no server shows. */
export async function samplesOf(metrics: Metrics, name: string): Promise<string[]> {
  return (await metrics.read()).split('\n').filter((line) => line.startsWith(name));
}
