/**
 * The files that a part of the comparison consists of, apart from the product: what it imports within the
 * benchmarks, and the processes and scripts that it starts by their name.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, posix } from 'node:path';
import { repoDir } from '../../stack/install/repo-dir.ts';

const BENCH = 'bench';
const IMPORTED = /from '(\.[^']+)'/g;
/** A compiled script or one of wrk. It is named from `bench` or from the file that starts it. */
const STARTED = /'([\w./-]+\.(?:js|lua))'/g;
/** One of a folder, as in `consumers/${name}.js`. */
const STARTED_OF_FOLDER = /`([\w./-]+\/)\$\{\w+\}\.js`/g;

/** @returns paths within the repository, sorted */
export function sourcesOf(part: string): string[] {
  const found = new Set<string>();
  addWithSources(`${BENCH}/compare/parts/${part}.ts`, found);
  return [...found].toSorted();
}

function addWithSources(file: string, found: Set<string>): void {
  if (found.has(file)) return;
  found.add(file);
  if (!file.endsWith('.ts')) return;
  const text = readFileSync(inRepo(file), 'utf8');
  const folder = dirname(file);
  const imported = [...text.matchAll(IMPORTED)].map(([, path = '']) => posix.join(folder, path));
  const started = [...text.matchAll(STARTED)].flatMap(([, path = '']) => {
    const source = path.replace(/\.js$/, '.ts');
    return [posix.join(folder, source), posix.join(BENCH, source)];
  });
  const ofFolders = [...text.matchAll(STARTED_OF_FOLDER)].flatMap(([, path = '']) => {
    const named = posix.join(folder, path);
    return existsSync(inRepo(named)) ? readdirSync(inRepo(named)).map((name) => posix.join(named, name)) : [];
  });
  for (const each of [...imported, ...started, ...ofFolders]) {
    if (each.startsWith(`${BENCH}/`) && existsSync(inRepo(each))) addWithSources(each, found);
  }
}

function inRepo(path: string): string {
  return posix.join(repoDir, path);
}
