/** Finds or installs libfaketime, which gives a process a clock of its own, for tests with wrong clocks. */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { canUseApt, installWithApt } from './server-packages.ts';

/** Debian keeps it in a folder of the machine's architecture, others do not. */
const LIB_DIRS = ['/usr/lib', '/usr/lib64', '/usr/local/lib'];
/** For programs with several threads. */
const LIBRARY = join('faketime', 'libfaketimeMT.so.1');

/** Its path; undefined when it cannot be installed either: the tests that need it say what to do. */
export async function locateFaketime(progress: (line: string) => void): Promise<string | undefined> {
  const found = findLibrary();
  if (found !== undefined || !canUseApt()) return found;
  await installWithApt(['libfaketime'], progress);
  return findLibrary();
}

function findLibrary(): string | undefined {
  const dirs = LIB_DIRS.filter((dir) => existsSync(dir));
  const ofArchitectures = dirs.flatMap((dir) =>
    readdirSync(dir)
      .filter((name) => name.includes('-linux-'))
      .map((name) => join(dir, name)),
  );
  return [...ofArchitectures, ...dirs].map((dir) => join(dir, LIBRARY)).find((file) => existsSync(file));
}
