/** Finds or installs podman with runc, which build the image and run its containers without a daemon. */

import { canUseApt, findProgram, installWithApt, isRoot } from './server-packages.ts';

const NEEDED = ['podman', 'runc', 'unshare'];

/** @returns the path of podman. @throws one sentence that says what is missing */
export async function locatePodman(progress: (line: string) => void): Promise<string> {
  const missing = (): string[] => NEEDED.filter((name) => findProgram([name]) === undefined);
  if (missing().length > 0 && canUseApt()) await installWithApt(['podman', 'runc', 'util-linux'], progress);
  const podman = findProgram(['podman']);
  if (podman === undefined || missing().length > 0)
    throw new Error(
      `The image cannot be run here, for want of ${missing().join(', ')}: install them, on Debian with \`sudo apt-get install podman runc\`.`,
    );
  if (!isRoot()) throw new Error('The image is built and run by root alone, because its files have owners.');
  return podman;
}
