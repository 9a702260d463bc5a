/**
 * Writes docs/benchmarks.md, its charts and the figures of README.md from the results; prose by hand comes
 * from a file beside them.
 */

import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { renderChart } from './chart.ts';
import { costsSection } from './costs.ts';
import { mediansOf } from './judgement.ts';
import { withFigures } from './readme.ts';
import { judgementsOf, markLifted, type PartResult, type Results } from './results.ts';
import { figuresTable, judgementsTable } from './tables.ts';

const readmeFile = join(repoDir, 'README.md');
const docsDir = join(repoDir, 'docs');
const pageFile = join(docsDir, 'benchmarks.md');
const chartsDir = join(docsDir, 'benchmarks');
/** Written by hand: what limits, what was tried and dropped. */
const notesFile = join(chartsDir, 'notes.md');

export const resultsFile = join(chartsDir, 'results.json');

/** @returns the files that it wrote */
export function writePage(results: Results): string[] {
  mkdirSync(chartsDir, { recursive: true });
  const charts = results.parts.map((part) => {
    const file = join(chartsDir, `${part.name}.svg`);
    writeFileSync(file, chartOf(part));
    return file;
  });
  writeFileSync(pageFile, pageText(results, existsSync(notesFile) ? readFileSync(notesFile, 'utf8') : ''));
  writeFileSync(readmeFile, withFigures(readFileSync(readmeFile, 'utf8'), results));
  return [readmeFile, pageFile, ...charts];
}

/** @param notes Markdown with headings of the second level */
function pageText(results: Results, notes: string): string {
  const { parts } = results;
  return `${[
    '# Benchmarks',
    '',
    'Written by `npm run bench -- compare` from [the results](benchmarks/results.json), which hold every single',
    'measurement. All figures are medians. The contestants of a part take turns on one machine, round after round,',
    'and each round begins with another one; a ratio compares figures of one run alone.',
    '',
    '## Targets',
    '',
    ...judgementsTable(
      parts.flatMap((part) =>
        judgementsOf(part).map((judgement) => ({ ...judgement, part: markLifted(part, part.name) })),
      ),
    ),
    '',
    ...(parts.some(({ lifted }) => lifted !== undefined)
      ? ['\\* The part lifts a bound that users have, and says which.', '']
      : []),
    ...costsSection(results),
    ...(notes.trim() === '' ? [] : [notes.trim(), '']),
    ...parts.flatMap(partSection),
    ...environmentSection(parts),
  ].join('\n')}\n`;
}

function chartOf(part: PartResult): string {
  const column = part.columns.find(({ key }) => key === part.charted);
  if (column === undefined)
    throw new Error(`${part.name} charts "${part.charted}", which is no column of it`);
  return renderChart({
    title: part.title,
    column,
    contestants: part.contestants,
    medians: mediansOf(part.measurements),
  });
}

function partSection(part: PartResult): string[] {
  const { name, title, about, lifted, contestants, columns, measurements, notes } = part;
  const { rounds, measuredAt, commit } = part;
  return [
    `## ${title}`,
    '',
    about,
    '',
    ...(lifted === undefined ? [] : [`**A bound is lifted.** ${lifted}`, '']),
    `![${title}](benchmarks/${name}.svg)`,
    '',
    ...figuresTable(contestants, columns, mediansOf(measurements)),
    '',
    ...(part.targets.length === 0 ? [] : [...judgementsTable(judgementsOf(part)), '']),
    ...notes.map((note) => `- ${note}`),
    `- ${rounds === 1 ? 'One round' : `Medians of ${rounds} rounds`}, on ${measuredAt.slice(0, 10)}, at commit ${commit}. Again: \`npm run bench -- compare --only ${name}\`.`,
    '',
  ];
}

/** Once for all parts that were measured in the same place, else for each. */
function environmentSection(parts: readonly PartResult[]): string[] {
  const places = new Map<string, string[]>();
  for (const { name, machine, versions } of parts) {
    const { cpu, cores, memoryGb, os } = machine;
    const text = [
      `${cpu}, ${cores} cores, ${memoryGb} GB of memory; ${os}.`,
      '',
      Object.entries(versions)
        .map(([what, version]) => `${what} ${version}`)
        .join(' · '),
    ].join('\n');
    places.set(text, [...(places.get(text) ?? []), name]);
  }
  return [
    '## Machine and versions',
    '',
    ...[...places].flatMap(([text, names]) => [
      ...(places.size > 1 ? [`Parts ${names.join(', ')}:`, ''] : []),
      text,
      '',
    ]),
    'Load generator, servers and Holdfast share the cores of this one machine, so no figure is what either could do',
    'on a machine of its own; the ratios are what to read.',
  ];
}
