/**
 * CONTRIBUTING's lists of places are whole: of a field of an order, where `userAgent` stands for such a
 * field, and of a step, a call and an event; and docs/architecture.md has the table that `CONTENT` is.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { CONTENT } from '../../src/orders/content.ts';
import { isRenewing, writeText } from '../house/budgets.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const PAGE = 'docs/architecture.md';
const BEGIN = '<!-- fields: rendered by test/docs/fields.test.ts -->';
const END = '<!-- fields: end -->';
const FOLDERS = ['src', 'lua', 'test/support'];

const contributing = readFileSync(join(root, 'CONTRIBUTING.md'), 'utf8');

test('"Add a field to an order" names each file that knows userAgent, and no other', () => {
  expect(readNamed('Add a field to an order')).toEqual(knowing(/user_?agent/i, FOLDERS));
});

test.each([
  ['Add a step to an order', /\bconfirmStock\b/],
  ['Add a call', /\blistDeliveries\b/],
  ['Add an event', /sale\.sold_out/],
])('"%s" names each file of src that knows its example, and no other', (section, example) => {
  expect(readNamed(section)).toEqual(knowing(example, ['src']));
});

function knowing(example: RegExp, folders: readonly string[]): string[] {
  return folders
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((name) => /\.(ts|lua|sql)$/.test(name))
        .map((name) => `${folder}/${name}`),
    )
    .filter((file) => example.test(readFileSync(join(root, file), 'utf8')))
    .toSorted();
}

/** The paths in the first column of the section's table. */
function readNamed(heading: string): string[] {
  const section = contributing.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const cells = section.split('\n').map((line) => /^\| (`[^|]*)\|/.exec(line)?.[1] ?? '');
  const paths = cells.flatMap((cell) => [...cell.matchAll(/`([^`]+)`/g)].map(([, path]) => path ?? ''));
  return [...new Set(paths)].toSorted();
}

test('docs/architecture.md has the fields of an order as `CONTENT` describes them', () => {
  const page = readFileSync(join(root, PAGE), 'utf8');
  const [before, rest] = page.split(BEGIN);
  const after = rest?.split(END)[1];
  const expected = `${before}${BEGIN}\n\n${renderContent()}\n\n${END}${after}`;
  if (isRenewing) writeText(PAGE, expected);
  else expect(page).toBe(expected);
});

/** As oxfmt has it: each column as wide as its widest cell. */
function renderContent(): string {
  const head = ['field', 'given by', 'Redis', 'MySQL', 'signed', 'fingerprint', 'cleared with'];
  const rows = CONTENT.map(({ name, givenBy, kept, signed, identifies, clearedWith }) => [
    `\`${name}\``,
    givenBy,
    name === 'orderNo' ? 'key' : kept === 'own' ? 'field' : '`carried`',
    name === 'items' ? 'table' : kept === 'carried' ? '`carried`' : 'column',
    signed ? 'yes' : '',
    identifies ? 'yes' : '',
    clearedWith ?? '',
  ]);
  const widths = head.map((cell, i) =>
    Math.max(...[head, ...rows].map((row) => row[i]?.length ?? cell.length)),
  );
  const line = (cells: readonly string[], fill = ' ') =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] ?? 0, fill)).join(' | ')} |`;
  const rule = line(
    head.map(() => ''),
    '-',
  );
  return [line(head), rule, ...rows.map((row) => line(row))].join('\n');
}
