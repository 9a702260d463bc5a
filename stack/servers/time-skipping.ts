/** Runs Temporal's time-skipping test server, with which workflow tests skip half an hour. */

import { Connection } from '@temporalio/client';
import { withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

/** Java takes some seconds, many on a machine that does other work as well. */
const READY_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 5_000;
const CONNECT_TIMEOUT_MS = 2_000;

/** Returns its address. The SDK would start it too, but gives up after five seconds. */
export async function startTimeSkipping(processes: Processes, command: string): Promise<string> {
  return withFreePort(undefined, async (port) => {
    const address = `127.0.0.1:${port}`;
    await processes.start({
      name: 'time-skipping',
      command,
      args: [String(port)],
      marker: String(port),
      isReady: () => answers(address),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return address;
  });
}

async function answers(address: string): Promise<boolean> {
  const connection = await Connection.connect({ address, connectTimeout: CONNECT_TIMEOUT_MS });
  await connection.close();
  return true;
}
