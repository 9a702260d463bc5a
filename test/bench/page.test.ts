/**
 * docs/benchmarks.md says what the results say: it is not edited by hand, and no run forgets it. What is
 * written by hand names every contestant.
 */

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { pageText } from '../../bench/compare/page.ts';
import { behindOurFront, NAMES } from '../../bench/compare/parts/accept-contestants.ts';
import { payablePart } from '../../bench/compare/parts/payable.ts';
import { readResults } from '../../bench/compare/results.ts';

const docs = new URL('../../docs/', import.meta.url);

function readIfThere(name: string): string | undefined {
  const file = new URL(name, docs);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

test('docs/benchmarks.md is written from the results and the notes; `npm run bench -- page` writes it again', () => {
  const results = readResults(fileURLToPath(new URL('benchmarks/results.json', docs)));
  const text = pageText(results, readIfThere('benchmarks/notes.md') ?? '');
  expect(readIfThere('benchmarks.md')).toBe(results.parts.length === 0 ? undefined : text);
});

test('docs/benchmarks.md says of every peer which design it stands for', () => {
  const table = readIfThere('benchmarks/notes.md')?.split('stands for which design\n')[1]?.split('\n## ')[0];
  const described = [...(table ?? '').matchAll(/^\| (.+?) +\|/gm)].map(([, name]) => name);
  const measured = readResults(fileURLToPath(new URL('benchmarks/results.json', docs)))
    .parts.flatMap(({ contestants }) => contestants)
    .flatMap(({ name, role }) => (role === 'peer' ? [name] : []));
  const stored = payablePart.targets.flatMap(({ text, against }) =>
    text === 'times the best peer' ? (against ?? []) : [],
  );
  expect([NAMES.length, stored.length]).toEqual([5, 5]);
  // A front is named behind the design.
  const designs = [...measured, ...stored, ...NAMES.map(behindOurFront)].map((name) => name.split(';')[0]);
  expect(designs.filter((name) => !described.includes(name))).toEqual([]);
});
