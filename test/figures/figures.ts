/**
 * Prints how large the product is, and how much of it each way runs. It asserts nothing: the figures are for
 * whoever weighs a change.
 */

import { basename, dirname } from 'node:path';
import { test } from 'vitest';
import { countLines, listFiles, readText } from '../house/sources.ts';
import { recordWays, type Taken } from './ways.ts';

test('the figures are printed', async () => {
  const ways = await recordWays();
  console.log([...ways].map(describeWay).join('\n\n'));
  console.log(`\n${describeSizes()}\n`);
  for (const [name, taken] of ways) console.log(`${name}: ${describeSum(taken)}`);
});

function describeSizes(): string {
  const src = listFiles('src');
  const srcLines = sumOf(src, countLines);
  const exported = sumOf(src, (file) => readText(file).match(/^export /gm)?.length ?? 0);
  const tests = listFiles('test').filter((file) => !file.endsWith('.json'));
  const pages = listFiles('docs').filter((file) => /^docs\/[^/]+\.md$/.test(file));
  const words = (file: string) => readText(file).match(/\S+/g)?.length ?? 0;
  return [
    `lines of src: ${show(srcLines)}`,
    `exports per 1,000 lines of src: ${((1_000 * exported) / srcLines).toFixed(1)}`,
    `lines of test, without JSON: ${show(sumOf(tests, countLines))}`,
    `words of README, CONTRIBUTING, CHANGELOG and docs: ${show(
      sumOf(['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...pages], words),
    )}`,
  ].join('\n');
}

function sumOf(files: readonly string[], count: (file: string) => number): number {
  return files.reduce((sum, file) => sum + count(file), 0);
}

const show = (count: number): string => count.toLocaleString('en');

/** Its files, folder by folder. */
function describeWay([name, { files }]: [string, Taken]): string {
  const folders = [...new Set(files.map((file) => dirname(file)))];
  const list = folders.map((folder) => {
    const names = files.filter((file) => dirname(file) === folder).map((file) => basename(file));
    return `  ${folder}: ${names.join(', ')}`;
  });
  return [name, ...list].join('\n');
}

function describeSum({ files, linesThatRun }: Taken): string {
  const lines = sumOf(files, countLines);
  return `${files.length} files of ${show(lines)} lines, of which ${show(linesThatRun)} run`;
}
