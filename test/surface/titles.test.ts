/** No test goes unseen: the titles are those of titles.txt, and one that went has its reason. */

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { readTitles } from './titles.ts';

const pathOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const readLines = (name: string): string[] => readFileSync(pathOf(name), 'utf8').split('\n');

/** Each a line of the file: the title, a colon, and a sentence that says why it went. */
function readGone(): string[] {
  return readLines('titles-gone.md').flatMap((line) => /^- `(.+)`: .+\.$/.exec(line)?.[1] ?? []);
}

/** `npm test -- test/surface -u` adds new titles, and takes out those whose going has its sentence. */
test('the titles are those of titles.txt, and one that went has its sentence in titles-gone.md', async () => {
  const [titles, gone] = [readTitles(), readGone()];
  const lost = readLines('titles.txt').filter((title) => title !== '' && !titles.includes(title));

  // Before the list is compared, because that may write it anew.
  expect(
    lost.filter((title) => !gone.includes(title)),
    'a title that goes needs a sentence in titles-gone.md',
  ).toEqual([]);
  expect(
    gone.filter((title) => titles.includes(title)),
    'titles-gone.md has a title that is there',
  ).toEqual([]);
  await expect(`${titles.join('\n')}\n`).toMatchFileSnapshot(pathOf('titles.txt'));
});
