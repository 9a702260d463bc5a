/** Runs Toxiproxy, through which the chaos suite cuts, slows and freezes connections. */

import type { Processes } from '../processes/processes.ts';
import { startGoServer } from './go-server.ts';

export const TOXIPROXY = {
  name: 'toxiproxy-server',
  module: 'github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0',
  oldestGoMinor: 17,
};

const READY_TIMEOUT_MS = 10_000;

/** Returns the URL of its control API. */
export async function startToxiproxy(
  processes: Processes,
  progress: (line: string) => void,
): Promise<string> {
  const server = {
    tool: TOXIPROXY,
    argsFor: (port: number) => ['-host', '127.0.0.1', '-port', String(port)],
    readyTimeoutMs: READY_TIMEOUT_MS,
  };
  return startGoServer(processes, server, progress);
}
