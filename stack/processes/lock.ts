/** A file that says which process has something: of use to others again when that one has died. */

import { readFileSync, rmSync, writeFileSync } from 'node:fs';

/** False while its holder lives. One that a dead process left is removed, and the next try gets it. */
export function takeLock(path: string): boolean {
  try {
    writeFileSync(path, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    if (!isAlive(path)) rmSync(path, { force: true });
    return false;
  }
}

function isAlive(path: string): boolean {
  try {
    const holder = Number(readFileSync(path, 'utf8'));
    // Written a moment after it was created: an empty lock is a living one.
    if (holder === 0) return true;
    return process.kill(holder, 0);
  } catch (error) {
    // EPERM: the process of another user, which is alive too. A vanished lock or process is not.
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
