/** Debian's debootstrap, which fetches what a Debian consists of, and the mirror to fetch it from. */

import { runCommand } from '../processes/command.ts';
import { canUseApt, findProgram, installWithApt } from './server-packages.ts';

const APT_TIMEOUT_MS = 10_000;

/** Its path, installed where it is missing; undefined when it cannot be. */
export async function locateDebootstrap(progress: (line: string) => void): Promise<string | undefined> {
  if (!canUseApt()) return undefined;
  if (findProgram(['debootstrap']) === undefined) await installWithApt(['debootstrap'], progress);
  return findProgram(['debootstrap']);
}

/** The mirror of this system's apt. Empty if the system is not Debian: debootstrap has a default. */
export async function mirrorOfApt(): Promise<string[]> {
  const args = ['indextargets', '--format=$(SITE)', 'Created-By: Packages', 'Label: Debian'];
  const { ok, output } = await runCommand('apt-get', args, { timeoutMs: APT_TIMEOUT_MS });
  return ok ? output.split('\n').filter(Boolean).slice(0, 1) : [];
}
