/** The API process: composition root. */

import { loadApiConfig } from '../config.ts';
import { createMetrics } from '../metrics.ts';
import { openProbe } from '../probe.ts';
import { runProcess } from '../process.ts';
import { openProvider } from '../providers/open.ts';
import { createPaced } from '../providers/pacing.ts';
import { openStores } from '../stores/open.ts';
import { startApi } from './service.ts';

await runProcess('api', loadApiConfig, async (config, log) => {
  const metrics = createMetrics();
  const { API_HOST: host, METRICS_PORT: port } = config;
  const scraped =
    port === undefined ? undefined : await openProbe({ host, port, hanging: () => [], metrics });
  if (scraped) log.info({ url: scraped.url }, 'metrics are answered on a port of their own');
  const stores = await openStores(config, log);
  const pace = stores.providerPace(config.PROVIDER_CALLS_PER_SECOND);
  const provider = openProvider(config, stores.deployment, createPaced(pace, 'shopper'));
  const service = await startApi(config, { stores, provider, log, metrics });
  return {
    ...service,
    async stop() {
      await service.stop();
      await scraped?.close();
    },
  };
});
