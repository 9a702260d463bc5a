/**
 * The images as their builds would make them: the Dockerfile's stages, the sources of each, what Docker gets
 * to see.
 */

import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { repoDir } from '../../stack/install/repo-dir.ts';

const TSCONFIGS = { product: 'tsconfig.build.json', sandbox: 'tsconfig.sandbox.json' };

export const tsconfigs = ['tsconfig.json', ...Object.values(TSCONFIGS)];

const read = (file: string): string => readFileSync(join(repoDir, file), 'utf8');

/** The names of the Dockerfile's stages, in their order. */
export const stages = [...read('Dockerfile').matchAll(/^FROM \S+ AS (\S+)$/gm)].map(([, name]) => name);

/** The files that the compiler reads for each image, as paths in the checkout. */
export const builtSources = {
  product: listSources(TSCONFIGS.product),
  sandbox: listSources(TSCONFIGS.sandbox),
};

function listSources(tsconfig: string): string[] {
  const tsc = join(repoDir, 'node_modules', 'typescript', 'bin', 'tsc');
  const args = [tsc, '-p', tsconfig, '--listFilesOnly'];
  const listed = execFileSync(process.execPath, args, { cwd: repoDir, encoding: 'utf8' });
  const files = listed.split('\n').map((file) => relative(repoDir, file.trim()));
  return files.filter((file) => file !== '' && !file.startsWith('node_modules'));
}

/** Every TypeScript file below these folders. */
export function sourcesUnder(...folders: string[]): string[] {
  return folders.flatMap((folder) =>
    readdirSync(join(repoDir, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => join(folder, file)),
  );
}

const [everything, ...exceptions] = read('.dockerignore')
  .split('\n')
  .filter((line) => line !== '' && !line.startsWith('#'));

/** Understands what the .dockerignore consists of: all is left out but the paths that are named. */
export function isLetThrough(file: string): boolean {
  if (everything !== '*') return true;
  return exceptions.some((line) => `!${file}` === line || `!${file}`.startsWith(`${line}/`));
}
