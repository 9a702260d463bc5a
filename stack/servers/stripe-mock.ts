/** Runs stripe-mock, Stripe's own stand-in for its API, for the tests of the Stripe adapter. */

import type { Processes } from '../processes/processes.ts';
import { startGoServer } from './go-server.ts';

/** It refuses requests that Stripe's OpenAPI specification does not allow, and replies with fixtures. */
export const STRIPE_MOCK = {
  name: 'stripe-mock',
  module: 'github.com/stripe/stripe-mock@v0.203.0',
  oldestGoMinor: 22,
};

/** It reads a specification of several megabytes first. */
const READY_TIMEOUT_MS = 30_000;

/** Returns the URL of its API. */
export async function startStripeMock(
  processes: Processes,
  progress: (line: string) => void,
): Promise<string> {
  const server = {
    tool: STRIPE_MOCK,
    argsFor: (port: number) => ['-http-addr', `127.0.0.1:${port}`],
    readyTimeoutMs: READY_TIMEOUT_MS,
  };
  return startGoServer(processes, server, progress);
}
