/** The product's sources as files that import each other. */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { parseSync, type EcmaScriptModule } from 'oxc-parser';
import { repoDir } from '../../stack/install/repo-dir.ts';

/** One import or re-export statement. */
interface Import {
  /** The file in `src`, or the name of a package. */
  to: string;
  isFile: boolean;
  /** Whether it brings types alone, so that nothing is loaded when the code runs. */
  isTypeOnly: boolean;
}

interface Source {
  file: string;
  imports: readonly Import[];
}

/** By path from the repository's root, in order. */
export type Sources = ReadonlyMap<string, Source>;

/** The files below a folder of the repository, in order. */
export function listFiles(folder: string): string[] {
  return readdirSync(join(repoDir, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(repoDir.length + 1))
    .toSorted();
}

export function readText(file: string): string {
  return readFileSync(join(repoDir, file), 'utf8');
}

export function countLines(file: string): number {
  return readText(file).split('\n').length - 1;
}

/** All TypeScript of `src`, parsed. */
export function readSources(): Sources {
  const files = listFiles('src').filter((file) => file.endsWith('.ts'));
  return new Map(files.map((file) => [file, readSource(file)]));
}

function readSource(file: string): Source {
  const text = readText(file);
  const { module, errors } = parseSync(file, text);
  assert.deepEqual(errors, [], `${file} can be parsed`);
  // A package may be, where only some processes need it.
  assert.deepEqual(
    module.dynamicImports.filter(
      ({ moduleRequest: { start, end } }) => !/^'[@a-z]/.test(text.slice(start, end)),
    ),
    [],
    `${file} imports nothing at run time, which no closure would see`,
  );
  return { file, imports: importsOf(file, module) };
}

function importsOf(file: string, { staticImports, staticExports }: EcmaScriptModule): Import[] {
  const imports = staticImports.map(({ moduleRequest, entries }) => ({
    ...target(file, moduleRequest.value),
    isTypeOnly: entries.length > 0 && entries.every(({ isType }) => isType),
  }));
  const reExports = staticExports
    .flatMap(({ entries }) => entries)
    .flatMap(({ moduleRequest, isType }) =>
      moduleRequest ? [{ ...target(file, moduleRequest.value), isTypeOnly: isType }] : [],
    );
  return [...imports, ...reExports];
}

function target(file: string, request: string): Pick<Import, 'to' | 'isFile'> {
  const isFile = request.startsWith('.');
  return { isFile, to: isFile ? normalize(join(dirname(file), request)) : request };
}

/** The entries and all files that they import, directly or through others, but for types alone. */
export function closureOf(sources: Sources, entries: readonly string[]): string[] {
  const reached = new Set<string>();
  const left = [...entries];
  for (let file = left.pop(); file !== undefined; file = left.pop()) {
    if (reached.has(file)) continue;
    reached.add(file);
    const source = sources.get(file);
    assert(source, `${file} is a source`);
    for (const { to, isFile, isTypeOnly } of source.imports) {
      if (isFile && !isTypeOnly) left.push(to);
    }
  }
  return [...reached].toSorted();
}
