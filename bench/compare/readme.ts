/** The figures of README.md: five of the results. Their goals are in docs/benchmarks.md alone. */

import assert from 'node:assert/strict';
import { mediansOf } from './judgement.ts';
import { markLifted, type PartResult, type Results } from './results.ts';
import { alignTable, formatFigure, type Cell } from './tables.ts';

const BEGIN = '<!-- figures: rendered from docs/benchmarks/results.json -->';
const END = '<!-- figures: end -->';

/** `of` and `figure` name a contestant and a column of the part. */
const SHOWN = [
  {
    part: 'sustained',
    of: 'Holdfast',
    figure: 'payable',
    what: 'Orders accepted and payable, for a minute, by one API process and one worker',
  },
  {
    part: 'lag',
    of: 'Holdfast',
    figure: 'maxMs',
    what: 'The longest from accepted to payable, from as many connections',
  },
  {
    part: 'poll',
    of: 'Holdfast',
    figure: 'reads',
    what: "Reads of an order's status",
  },
  {
    part: 'latency',
    of: 'at 25/s',
    figure: 'paidP99',
    what: "From the provider's notice to paid, p99, at 25 orders a second",
  },
  {
    part: 'engine',
    of: 'Holdfast',
    figure: 'lives',
    what: 'Whole lives of orders in Temporal: stored, started, paid, ended',
  },
] as const;

/** @returns the README's text with the figures of these results between its markers */
export function withFigures(readme: string, results: Results): string {
  const [before = '', from, ...others] = readme.split(BEGIN);
  const [, after] = from?.split(END) ?? [];
  assert(after !== undefined && others.length === 0, `README.md has "${BEGIN}" and "${END}" once each`);
  return `${before}${BEGIN}\n\n${figuresText(results)}\n\n${END}${after}`;
}

function figuresText(results: Results): string {
  const shown = SHOWN.flatMap((each) => {
    const part = results.parts.find(({ name }) => name === each.part);
    return part === undefined ? [] : [{ ...each, part }];
  });
  const parts = [...new Set(shown.map(({ part }) => part))];
  const left = (text: string): Cell => ({ text, align: 'left' });
  const right = (text: string): Cell => ({ text, align: 'right' });
  const header = [left('what'), right('measured'), left('part, day, commit')];
  const rows = shown.map(({ part, of, figure, what }) => [
    left(what),
    right(markLifted(part, medianOf(part, of, figure))),
    left(`${part.name}, ${part.measuredAt.slice(0, 10)}, ${part.commit}`),
  ]);
  return [
    `${placesOf(parts)} Each figure is the median of its rounds.`,
    '',
    ...alignTable([header, ...rows]),
    ...(parts.some(({ lifted }) => lifted !== undefined)
      ? ['', '\\* With a bound lifted that users have: [the part](docs/benchmarks.md) says which.']
      : []),
  ].join('\n');
}

function medianOf({ name, columns, measurements }: PartResult, of: string, figure: string): string {
  const column = columns.find(({ key }) => key === figure);
  const value = mediansOf(measurements).get(of)?.[figure];
  assert(column !== undefined && value !== undefined, `${name} has measured "${figure}" of "${of}"`);
  return formatFigure(value, column);
}

function placesOf(parts: readonly PartResult[]): string {
  const places = new Set(parts.map(({ machine: { cores, cpu } }) => `${cores} cores (${cpu})`));
  return `Measured on ${[...places].join(' and on ')} that ran everything at once: servers, Holdfast and the load.`;
}
