/** The static figures of the house. Each is counted by names, so that a reader can check what was counted. */

import { dirname } from 'node:path';
import { circlesOf, closureOf, countLines, listFiles, readText, type Sources } from './sources.ts';
import { findStatelessFactories } from './stateless-factories.ts';

/** What the product's processes run, and the two modules that the workflow bundle is made of. */
const ENTRIES = [
  'src/api/main.ts',
  'src/workers/main.ts',
  'src/prepare.ts',
  'src/ops/main.ts',
  'src/audit/main.ts',
  'src/workflows/index.ts',
  'src/workflows/payload-converter.ts',
];

/** A field of an order that is only carried: each file that names it describes the order once more. */
const CARRIED_FIELD = /user_?agent/i;

interface Figure {
  count: number;
  /** What was counted, one line each. */
  names: readonly string[];
}

/** Each figure of budgets.json but those of the ways. */
export function measureHouse(sources: Sources): Record<string, Figure> {
  const files = productFiles(sources);
  const lines = files.map((file) => ({ file, lines: countLines(file) }));
  return {
    'files of the product': figure(files),
    'lines of the product': {
      count: lines.reduce((sum, each) => sum + each.lines, 0),
      names: lines.map((each) => `${each.file}: ${each.lines}`),
    },
    'files that name `userAgent`': figure(files.filter((file) => CARRIED_FIELD.test(readText(file)))),
    'names that folders take from each other': figure(takenNames(sources)),
    'import bindings': figure(importBindings(sources)),
    'circles between files': figure(circlesOf(sources).map((circle) => circle.join(' <-> '))),
    'stateless factories': figure(findStatelessFactories(sources)),
  };
}

/**
 * The closure of the entries by imports, types included, and what is read when a process starts: the Lua
 * scripts, and of `src` what is not TypeScript, such as SQL.
 */
export function productFiles(sources: Sources): string[] {
  const read = listFiles('src').filter((file) => !file.endsWith('.ts'));
  return [...closureOf(sources, ENTRIES, { withTypes: true }), ...read, ...listFiles('lua')];
}

function figure(names: readonly string[]): Figure {
  return { count: names.length, names };
}

/** Each exported name, of a value or a type, that a file of another folder imports; once, however many do. */
function takenNames(sources: Sources): string[] {
  const taken = [...sources.values()].flatMap(({ file, imports }) =>
    imports
      .filter(({ to, isFile }) => isFile && dirname(to) !== dirname(file))
      .flatMap(({ to, bindings }) => bindings.map(({ name }) => `${name} (${to})`)),
  );
  return [...new Set(taken)].toSorted();
}

/** Each name that a file imports or re-exports from another file of `src`; packages are left out. */
function importBindings(sources: Sources): string[] {
  return [...sources.values()].flatMap(({ file, imports }) =>
    imports
      .filter(({ isFile }) => isFile)
      .flatMap(({ to, bindings }) => bindings.map(({ name }) => `${file} takes ${name} of ${to}`)),
  );
}
