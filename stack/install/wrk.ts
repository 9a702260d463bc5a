/**
 * Finds or installs wrk, the load generator of the benchmarks: one thread of it outruns any server in Node.
 */

import { canUseApt, findProgram, installWithApt } from './server-packages.ts';

/** On PATH, else by apt-get as root; throws one sentence that says what to do. */
export async function locateWrk(progress: (line: string) => void): Promise<string> {
  const there = findProgram(['wrk']);
  if (there !== undefined) return there;
  if (canUseApt()) await installWithApt(['wrk'], progress);
  const installed = findProgram(['wrk']);
  if (installed !== undefined) return installed;
  const command = process.platform === 'darwin' ? 'brew install wrk' : 'sudo apt-get install wrk';
  throw new Error(`wrk, the load generator, is missing: install it with \`${command}\`.`);
}
