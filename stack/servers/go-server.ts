/** Runs a server that only tests and the chaos suite need, built with Go, on a free port of loopback. */

import { locateGoTool, type GoTool } from '../install/go-install.ts';
import { canConnect, withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

const STOP_TIMEOUT_MS = 5_000;

export interface GoServer {
  tool: GoTool;
  /** They name the port, by which the process is found among others. */
  argsFor: (port: number) => string[];
  readyTimeoutMs: number;
}

/** @returns the URL at which it listens */
export async function startGoServer(
  processes: Processes,
  { tool, argsFor, readyTimeoutMs }: GoServer,
  progress: (line: string) => void,
): Promise<string> {
  const command = await locateGoTool(tool, progress);
  return withFreePort(undefined, async (port) => {
    const args = argsFor(port);
    await processes.start({
      name: tool.name,
      command,
      args,
      marker: args.join(' '),
      isReady: () => canConnect('127.0.0.1', port),
      readyTimeoutMs,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return `http://127.0.0.1:${port}`;
  });
}
