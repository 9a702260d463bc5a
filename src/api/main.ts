/** The API process: composition root. With API_PROCESSES beyond 1 it starts so many like itself instead. */

import cluster from 'node:cluster';
import type { Logger } from 'pino';
import { loadApiConfig, type ApiConfig } from '../config.ts';
import { createMetrics } from '../metrics.ts';
import { openProvider } from '../payments/open.ts';
import { runProcess, type Service } from '../process.ts';
import { openStores } from '../stores/open.ts';
import { startProcesses } from './processes.ts';
import { startApi } from './service.ts';
import { shareMetrics } from './shared-metrics.ts';

await runProcess('api', loadApiConfig, (config, log) => {
  if (cluster.isWorker) return startOne(config, log);
  return config.API_PROCESSES === 1 ? startAlone(config, log) : startProcesses(config.API_PROCESSES, log);
});

async function startAlone(config: ApiConfig, log: Logger): Promise<Service> {
  return startApi(config, { stores: await openStores(config, log), provider: openProvider(config), log });
}

/** One of several. */
async function startOne(config: ApiConfig, log: Logger): Promise<Service> {
  // A supervisor that signals the whole group does so beside the process that started this one: the second
  // signal must not end what the first has told to finish.
  process.on('SIGTERM', () => {}).on('SIGINT', () => {});
  const metrics = shareMetrics(createMetrics());
  const stores = await openStores(config, log);
  const service = await startApi(config, { stores, provider: openProvider(config), log, metrics });
  return {
    ...service,
    async stop() {
      await service.stop();
      // The channel to the process that started this one would keep it alive.
      cluster.worker?.disconnect();
    },
  };
}
