/** Runs Toxiproxy, through which the chaos suite cuts, slows and freezes connections. */

import { locateGoTool } from '../install/go-install.ts';
import { canConnect, findFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

const TOXIPROXY = {
  name: 'toxiproxy-server',
  module: 'github.com/Shopify/toxiproxy/v2/cmd/server@v2.5.0',
  oldestGoMinor: 17,
};

const READY_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;

/** Returns the URL of its control API. */
export async function startToxiproxy(
  processes: Processes,
  progress: (line: string) => void,
): Promise<string> {
  const command = await locateGoTool(TOXIPROXY, progress);
  const port = await findFreePort();
  await processes.start({
    name: 'toxiproxy',
    command,
    args: ['-host', '127.0.0.1', '-port', String(port)],
    marker: `-port ${port}`,
    isReady: () => canConnect('127.0.0.1', port),
    readyTimeoutMs: READY_TIMEOUT_MS,
    stopTimeoutMs: STOP_TIMEOUT_MS,
  });
  return `http://127.0.0.1:${port}`;
}
