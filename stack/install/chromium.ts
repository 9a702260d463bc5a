/** Finds or installs a browser for the tests that look at pages. */

import { canUseApt, findProgram, installWithApt } from './server-packages.ts';

const BINARIES = ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable'];

/** The browser's path; undefined when none can be installed either: the tests that need it say what to do. */
export async function locateChromium(progress: (line: string) => void): Promise<string | undefined> {
  const found = findProgram(BINARIES);
  if (found !== undefined || !canUseApt()) return found;
  // Some font must be there, or every letter is a box.
  await installWithApt(['chromium', 'fonts-dejavu-core'], progress);
  return findProgram(BINARIES);
}
