/** The charts of docs/benchmarks.md. */

import { expect, test } from 'vitest';
import { renderChart } from '../../bench/compare/chart.ts';

test('a chart that is drawn again is the same to the letter', () => {
  const chart = {
    title: 'Accepting',
    column: { key: 'rate', label: 'orders a second', unit: '/s', digits: 0 },
    contestants: [
      { name: 'Holdfast', role: 'ours' },
      { name: 'bare', role: 'limit' },
    ],
    medians: new Map([
      ['Holdfast', { rate: 4_464 }],
      ['bare', { rate: 17_000 }],
    ]),
  } as const;
  const first = renderChart(chart);

  expect(first).toContain('Holdfast');
  expect(renderChart(chart)).toBe(first);
});
