/** docs/benchmarks.md says what the results say: it is not edited by hand, and no run forgets it. */

import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { pageText } from '../../bench/compare/page.ts';
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
