/** Finds or installs Prometheus with its promtool, by which the alerts are checked and tried. */

import { dirname, join } from 'node:path';
import { canUseApt, findProgram, installWithApt } from './server-packages.ts';

export interface Prometheus {
  prometheus: string;
  promtool: string;
}

/** On PATH, else by apt-get as root; throws one sentence that says what to do. */
export async function locatePrometheus(progress: (line: string) => void): Promise<Prometheus> {
  let promtool = findProgram(['promtool']);
  if (promtool === undefined && canUseApt()) {
    await installWithApt(['prometheus'], progress);
    promtool = findProgram(['promtool']);
  }
  if (promtool === undefined) {
    const command =
      process.platform === 'darwin' ? 'brew install prometheus' : 'sudo apt-get install prometheus';
    throw new Error(`Prometheus, which tries the alerts, is missing: install it with \`${command}\`.`);
  }
  return { promtool, prometheus: join(dirname(promtool), 'prometheus') };
}
