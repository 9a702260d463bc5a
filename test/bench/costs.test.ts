/** The table of what an order costs says what the parts have measured, and waits for all of them. */

import { expect, test } from 'vitest';
import { costsSection } from '../../bench/compare/costs.ts';
import { buildPart } from './build-part.ts';

function measured(name: string, contestant: string, figures: Record<string, number>) {
  return buildPart({ name, measurements: [{ round: 1, contestant, figures, seconds: 2 }] });
}

const parts = [
  measured('accept', 'Holdfast, front alone', { rate: 10_000, serverCpu: 90, redisUs: 40 }),
  measured('payable', 'Holdfast', { rate: 9_000, workerUs: 50, mysqlUs: 35, redisUs: 16 }),
  measured('ending', 'Holdfast', { rate: 4_000, workerUs: 90, mysqlUs: 60, redisUs: 44 }),
  measured('engine', 'Holdfast', { lives: 45, worker: 16, temporal: 18.5, mysql: 3, redis: 0.2 }),
];

test('what an order costs is said by step and process, and what one Redis takes from many', () => {
  const text = costsSection({ parts }).join('\n');
  expect(text).toMatch(/\| accepted +\| accept +\| +90 \| +40 \| +– \| +– \| +– \|/);
  expect(text).toMatch(/\| stored +\| payable +\| +– \| +16 \| +50 \| +35 \| +– \|/);
  expect(text).toMatch(/\| ended without a workflow +\| ending +\| +– \| +44 \| +90 \| +60 \| +– \|/);
  expect(text).toMatch(/\| a whole life .+ \| engine +\| +– \| +200 \| +16,000 \| +3,000 \| +18,500 \|/);
  expect(text).toContain('take 100 µs of it, so one Redis takes some 10,000 orders a second');
});

test.each(parts.map(({ name }) => name))('the table waits for the part %s', (missing) => {
  expect(costsSection({ parts: parts.filter(({ name }) => name !== missing) })).toEqual([]);
});

test('the table waits for a part that was measured before it counted costs', () => {
  const before = measured('accept', 'Holdfast, front alone', { rate: 10_000, serverCpu: 90 });
  expect(costsSection({ parts: [before, ...parts.slice(1)] })).toEqual([]);
});
