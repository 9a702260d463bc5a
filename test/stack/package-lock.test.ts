/** The lock of the packages: `npm ci` takes it on every system, from whatever registry is at hand. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';

const names = z.record(z.string(), z.string()).default({});
const lockedPackage = z.object({
  resolved: z.string().optional(),
  integrity: z.string().optional(),
  dependencies: names,
  optionalDependencies: names,
});
const text = readFileSync(join(repoDir, 'package-lock.json'), 'utf8');
const { packages } = z.object({ packages: z.record(z.string(), lockedPackage) }).parse(JSON.parse(text));

/** Whether a package finds the other one as Node looks for it: in its own folder, or further up. */
function isLocked(path: string, name: string): boolean {
  const inFolder = `${path}/node_modules/${name}`.replace(/^\//, '');
  return inFolder in packages || (path !== '' && isLocked(parentOf(path), name));
}

const parentOf = (path: string): string => path.slice(0, Math.max(path.lastIndexOf('/node_modules/'), 0));

test('each dependency of a locked package is locked too, also the optional builds for other systems', () => {
  const missing = Object.entries(packages).flatMap(([path, { dependencies, optionalDependencies }]) =>
    Object.keys({ ...dependencies, ...optionalDependencies })
      .filter((name) => !isLocked(path, name))
      .map((name) => `${path} needs ${name}`),
  );
  // npm 11 refuses such a lock, npm 10 does not: write it where every build of a version can be had.
  expect(missing).toEqual([]);
});

test('the lock tells what each package is, and names no registry', () => {
  const fromRegistry = Object.entries(packages).filter(([path]) => path !== '');
  expect(fromRegistry.filter(([, { integrity }]) => integrity === undefined)).toEqual([]);
  expect(fromRegistry.filter(([, { resolved }]) => resolved !== undefined)).toEqual([]);
});
