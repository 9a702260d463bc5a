/** Runs stripe-mock, Stripe's own stand-in for its API, for the tests of the Stripe adapter. */

import { locateGoTool } from '../install/go-install.ts';
import { canConnect, withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';

/** It refuses requests that Stripe's OpenAPI specification does not allow, and replies with fixtures. */
const STRIPE_MOCK = {
  name: 'stripe-mock',
  module: 'github.com/stripe/stripe-mock@v0.203.0',
  oldestGoMinor: 22,
};

/** It reads a specification of several megabytes first. */
const READY_TIMEOUT_MS = 30_000;
const STOP_TIMEOUT_MS = 5_000;

/** Returns the URL of its API. */
export async function startStripeMock(
  processes: Processes,
  progress: (line: string) => void,
): Promise<string> {
  const command = await locateGoTool(STRIPE_MOCK, progress);
  return withFreePort(undefined, async (port) => {
    const address = `127.0.0.1:${port}`;
    await processes.start({
      name: 'stripe-mock',
      command,
      args: ['-http-addr', address],
      marker: `-http-addr ${address}`,
      isReady: () => canConnect('127.0.0.1', port),
      readyTimeoutMs: READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return `http://${address}`;
  });
}
