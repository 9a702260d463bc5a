/** The API process: composition root. With API_PROCESSES beyond 1 it starts so many like itself instead. */

import cluster from 'node:cluster';
import type { Logger } from 'pino';
import { loadApiConfig, type ApiConfig } from '../config.ts';
import { createMetrics } from '../metrics.ts';
import { runProcess, type Service } from '../process.ts';
import { openProvider } from '../providers/open.ts';
import { createPaced } from '../providers/pacing.ts';
import { openStores } from '../stores/open.ts';
import { openMetricsPort, shareMetrics } from './gauges.ts';
import { startProcesses } from './processes.ts';
import { startApi, type ApiParts } from './service.ts';

await runProcess('api', loadApiConfig, (config, log) => {
  if (cluster.isWorker) return startOne(config, log);
  return config.API_PROCESSES === 1
    ? startAlone(config, log)
    : startProcesses(config.API_PROCESSES, config, log);
});

async function startAlone(config: ApiConfig, log: Logger): Promise<Service> {
  const metrics = createMetrics();
  const scraped = await openMetricsPort(config, metrics, log);
  const service = await startApi(config, { ...(await openParts(config, log)), log, metrics });
  return {
    ...service,
    async stop() {
      await service.stop();
      await scraped?.close();
    },
  };
}

async function openParts(config: ApiConfig, log: Logger): Promise<Pick<ApiParts, 'stores' | 'provider'>> {
  const stores = await openStores(config, log);
  const pace = stores.providerPace(config.PROVIDER_CALLS_PER_SECOND);
  const provider = openProvider(config, stores.deployment, createPaced(pace, 'shopper'));
  return { stores, provider };
}

/** One of several. */
async function startOne(config: ApiConfig, log: Logger): Promise<Service> {
  // A supervisor that signals the whole group signals this process too, beside the one that started it. The
  // second signal must not end a shutdown that the first has begun.
  process.on('SIGTERM', () => {}).on('SIGINT', () => {});
  const metrics = shareMetrics(createMetrics());
  const service = await startApi(config, { ...(await openParts(config, log)), log, metrics });
  return {
    ...service,
    async stop() {
      await service.stop();
      // The channel to the process that started this one would keep it alive.
      cluster.worker?.disconnect();
    },
  };
}
