/** The figures of README.md: some of the results, each with what it is compared with and its goal. */

import assert from 'node:assert/strict';
import { mediansOf, type Judgement } from './judgement.ts';
import { judgementsOf, markLifted, type PartResult, type Results } from './results.ts';
import { alignTable, formatFigure, formatValue, type Cell } from './tables.ts';

const BEGIN = '<!-- figures: rendered from docs/benchmarks/results.json -->';
const END = '<!-- figures: end -->';

/** `of` and `figure` name a contestant and a column of the part. */
const SHOWN = [
  {
    part: 'accept',
    of: 'Holdfast, all running',
    figure: 'rate',
    what: 'Orders accepted by one API process, with worker, MySQL and Temporal at work on them',
  },
  {
    part: 'lag',
    of: 'Holdfast',
    figure: 'maxMs',
    what: 'The longest from accepted to payable, from as many connections',
  },
  {
    part: 'sold-out',
    of: 'Holdfast',
    figure: 'rate',
    what: 'Refusals when nothing is left',
  },
  {
    part: 'poll',
    of: 'Holdfast',
    figure: 'reads',
    what: "Reads of an order's status",
  },
  {
    part: 'payable',
    of: 'Holdfast',
    figure: 'rate',
    what: 'Waiting orders made payable',
  },
  {
    part: 'latency',
    of: 'at 25/s',
    figure: 'paidP99',
    what: "From the provider's notice to paid, p99, at 25 orders a second",
  },
  {
    part: 'latency',
    of: 'at 50/s',
    figure: 'paidP99',
    what: 'The same at 50 orders a second',
  },
  {
    part: 'engine',
    of: 'Holdfast',
    figure: 'lives',
    what: 'Whole lives of orders in Temporal: stored, started, paid, ended',
  },
  {
    part: 'backlog',
    of: '500,000 waiting',
    figure: 'peakMb',
    what: 'Memory of a worker that finds 500,000 orders waiting',
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
  const header = [left('what'), right('measured'), left('beside it'), left('part, day, commit')];
  const rows = shown.map(({ part, of, figure, what }) => [
    left(what),
    right(markLifted(part, medianOf(part, of, figure))),
    left(goalsOf(part, of, figure)),
    left(`${part.name}, ${part.measuredAt.slice(0, 10)}, ${part.commit}`),
  ]);
  const judgements = results.parts.flatMap(judgementsOf);
  const met = judgements.filter(({ verdict }) => verdict === 'met').length;
  return [
    `${placesOf(parts)} Each figure is the median of its rounds. Of all ${judgements.length} goals ${met} are met.`,
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

/** Of this very figure; a figure may have several goals, or none. */
function goalsOf(part: PartResult, of: string, figure: string): string {
  const judgements = judgementsOf(part);
  return part.targets
    .flatMap((target, i) => {
      const judgement = judgements[i];
      return target.of === of && target.figure === figure && judgement !== undefined ? [judgement] : [];
    })
    .map(describeGoal)
    .join(' · ');
}

function describeGoal({ value, against, goal, verdict }: Judgement): string {
  const verdictText = verdict === 'met' ? 'met' : `**${verdict}**`;
  if (against === null || value === null) return `goal ${goal}: ${verdictText}`;
  return `${formatValue(value)} × ${against}, goal ${goal}: ${verdictText}`;
}

function placesOf(parts: readonly PartResult[]): string {
  const places = new Set(parts.map(({ machine: { cores, cpu } }) => `${cores} cores (${cpu})`));
  return `Measured on ${[...places].join(' and on ')} that ran everything at once: servers, Holdfast and the load.`;
}
