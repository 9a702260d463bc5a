/** Every path, link and heading that the documents name exists. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
const FOLDERS = 'src|lua|docs|test|stack|bench|chaos|sandbox|pages|examples|deploy|monitoring';

const files = FOLDERS.split('|').flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) => `${folder}/${name}`),
);
const pages = ['README.md', 'CONTRIBUTING.md', ...files.filter((file) => /^docs\/[^/]+\.md$/.test(file))];

test.each(pages)('every path that %s names exists', (page) => {
  expect(findMissing(page, readFileSync(join(root, page), 'utf8'))).toEqual([]);
});

test('a path, a file name, a link and a heading that do not exist are found', () => {
  const text = [
    '# Here',
    '`src/config.ts`, `src/*.ts`, `src/workflows/contract`, `src/providers/<name>.ts`, `config.ts`, `src/nowhere.ts`, `nowhere.lua`',
    'node dist/src/api/main.js; npx vitest run test/replay test/nowhere',
    '[a](configuration.md#settings) [b](nowhere.md) [c](configuration.md#nowhere) [d](#here) [e](https://example.com)',
  ].join('\n');

  expect(findMissing('docs/page.md', text)).toEqual([
    'src/nowhere.ts',
    'test/nowhere',
    'nowhere.lua',
    'nowhere.md',
    'configuration.md#nowhere',
  ]);
});

function findMissing(page: string, text: string): string[] {
  // Anywhere, not only in backticks: commands name paths too. What is built (`dist/…`) is not in the
  // repository.
  const paths = [...text.matchAll(new RegExp(`(?<![\\w/.-])(?:${FOLDERS})/[\\w./*<>-]*[\\w*>]`, 'g'))];
  const names = [...text.matchAll(/`([\w-]+(?:\.sql|\.redis)?\.(?:ts|lua|mjs|md|json|yml))`/g)];
  const links = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link ?? '');
  const missing = [
    ...paths.map(([path]) => path).filter((path) => !path.includes('<') && !isThere(path)),
    ...names.map(([, name]) => name ?? '').filter((name) => !isThere(name) && !hasName(name)),
    ...links.filter((link) => !/^https?:/.test(link) && !isLinkTarget(page, link)),
  ];
  return [...new Set(missing)];
}

/** Rooms may be named without the extension of their only file; a star stands for one part of a path. */
function isThere(path: string): boolean {
  if (!path.includes('*')) return existsSync(join(root, path)) || existsSync(join(root, `${path}.ts`));
  const pattern = new RegExp(`^${path.replaceAll('.', '\\.').replaceAll('*', '[^/]+')}$`);
  return files.some((file) => pattern.test(file));
}

function hasName(name: string): boolean {
  return files.some((file) => file.endsWith(`/${name}`));
}

function isLinkTarget(page: string, link: string): boolean {
  const [file = '', heading] = link.split('#');
  const target = file === '' ? join(root, page) : join(root, page, '..', file);
  if (!existsSync(target)) return file === '';
  if (heading === undefined) return true;
  const headings = readFileSync(target, 'utf8').matchAll(/^#+ (.+)$/gm);
  return [...headings].some(([, title = '']) => slug(title) === heading);
}

/** As the anchors of headings are made where the pages are shown. */
function slug(title: string): string {
  return title
    .toLowerCase()
    .replaceAll(/[^\w\s-]/g, '')
    .trim()
    .replaceAll(/\s/g, '-');
}
