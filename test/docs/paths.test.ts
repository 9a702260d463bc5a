/** Every path, link and heading that the documents name exists. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { listFiles } from '../house/sources.ts';

const FOLDERS = 'src|lua|docs|test|stack|bench|chaos|sandbox|pages|examples|deploy|monitoring';
const files = FOLDERS.split('|').flatMap(listFiles);
const pages = ['README.md', 'CONTRIBUTING.md', ...files.filter((file) => /^docs\/[^/]+\.md$/.test(file))];

test.each(pages)('every path that %s names exists', (page) => {
  const text = readFileSync(join(repoDir, page), 'utf8');
  // Anywhere, not only in backticks: commands name paths too. What is built (`dist/…`) is not in the
  // repository.
  const paths = [...text.matchAll(new RegExp(`(?<![\\w/.-])(?:${FOLDERS})/[\\w./*<>-]*[\\w*>]`, 'g'))];
  const names = [...text.matchAll(/`([\w-]+(?:\.sql|\.redis)?\.(?:ts|lua|mjs|md|json|yml))`/g)];
  const missing = [
    ...paths.map(([path]) => path).filter((path) => !path.includes('<') && !isThere(path)),
    ...names.map(([, name]) => name ?? '').filter((name) => !isThere(name) && !hasName(name)),
  ];
  expect(missing).toEqual([]);
});

test.each(pages)('every link of %s leads to a file, and to a heading of it', (page) => {
  const text = readFileSync(join(repoDir, page), 'utf8');
  const links = [...text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, link]) => link ?? '');
  expect(links.filter((link) => !isLinkTarget(page, link))).toEqual([]);
});

/** Rooms may be named without the extension of their only file; a star stands for one part of a path. */
function isThere(path: string): boolean {
  if (!path.includes('*')) return existsSync(join(repoDir, path)) || existsSync(join(repoDir, `${path}.ts`));
  const pattern = new RegExp(`^${path.replaceAll('.', '\\.').replaceAll('*', '[^/]+')}$`);
  return files.some((file) => pattern.test(file));
}

function hasName(name: string): boolean {
  return files.some((file) => file.endsWith(`/${name}`));
}

function isLinkTarget(page: string, link: string): boolean {
  const [file = '', heading] = link.split('#');
  const target = file === '' ? join(repoDir, page) : join(repoDir, page, '..', file);
  if (!existsSync(target) || heading === undefined) return existsSync(target);
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
