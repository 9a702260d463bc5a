/**
 * A checkout of real processes for changes of a sale: two APIs and two workers, any of which may be killed
 * and started again, on a Redis, a database and a namespace of its own.
 */

import type { Client } from '@temporalio/client';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { appEnv, startApi, startWorker } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { openProvider } from '../crash/crash-world.ts';
import { openPrivateStage } from '../support/private-stage.ts';
import { JWT_SECRET } from '../support/shopper.ts';
import type { TestStores } from '../support/stores.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { openEngine } from '../support/workflows/engines.ts';

export const PARTS = ['api-1', 'worker-1', 'api-2', 'worker-2'] as const;

export interface ChangeStorm {
  stores: TestStores;
  client: Client;
  provider: PaymentProvider;
  apiUrls: string[];
  /** With SIGKILL; @returns the start of its successor, which is to be waited for */
  kill(part: (typeof PARTS)[number]): Promise<{ back: Promise<void> }>;
}

/** `onClose` takes what ends all of it, in the opposite order. */
export async function openChangeStorm(onClose: (close: () => Promise<void>) => void): Promise<ChangeStorm> {
  const { stores, namespace, servers } = await openPrivateStage(onClose);
  const { client, close: closeEngine } = await openEngine(namespace);
  onClose(closeEngine);
  const ports = [await findFreePort(), await findFreePort()];
  const apiUrls = ports.map((port) => `http://127.0.0.1:${port}`);
  const { provider, providerUrl } = await openProvider(apiUrls[0] ?? '', stores, onClose);
  const { processes, close: closeProcesses } = await openTestProcesses((crash) => {
    throw crash;
  });
  onClose(closeProcesses);

  function start(part: (typeof PARTS)[number]): Promise<void> {
    const env = {
      ...appEnv({
        servers,
        urls: { apiUrl: apiUrls[part.endsWith('1') ? 0 : 1] ?? '', providerUrl },
      }),
      TEMPORAL_NAMESPACE: namespace,
      JWT_SECRET,
    };
    return (part.startsWith('api') ? startApi : startWorker)(processes, { name: part, env });
  }

  await Promise.all(PARTS.map(start));
  return {
    stores,
    client,
    provider,
    apiUrls,
    async kill(part) {
      await processes.kill(part);
      return { back: start(part) };
    },
  };
}
