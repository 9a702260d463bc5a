/** CONTRIBUTING's list of the places of an order's field is whole; `userAgent` stands for such a field. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = ['src', 'lua', 'test/support'];

test('"Add a field to an order" names each file that knows userAgent, and no other', () => {
  const named = readNamed(readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8'));
  const knowing = FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /\.(ts|lua|sql)$/.test(name))
      .map((name) => `${folder}/${name}`),
  ).filter((file) => /user_?agent/i.test(readFileSync(join(root, file), 'utf8')));

  expect(named).toEqual(knowing.toSorted());
});

/** The paths in the first column of the section's table. */
function readNamed(text: string): string[] {
  const section = text.split('\n## Add a field to an order\n')[1]?.split('\n## ')[0] ?? '';
  const cells = section.split('\n').map((line) => /^\| (`[^|]*)\|/.exec(line)?.[1] ?? '');
  const paths = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, path]) => path ?? ''));
  return [...new Set(paths)].toSorted();
}
