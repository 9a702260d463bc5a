/** The composition root of the worker process. */

import { loadWorkerConfig } from '../config.ts';
import { runProcess } from '../process.ts';
import { openProvider } from '../providers/open.ts';
import { createPaced } from '../providers/pacing.ts';
import { openStores } from '../stores/open.ts';
import { boundHeapGrowth } from './heap-growth.ts';
import { startWorker } from './service.ts';

boundHeapGrowth();
await runProcess('worker', loadWorkerConfig, async (config, log) => {
  const stores = await openStores(config, log);
  const pace = stores.providerPace(config.PROVIDER_CALLS_PER_SECOND);
  return startWorker(config, {
    stores,
    provider: openProvider(config, stores.deployment, createPaced(pace, 'background')),
    log,
  });
});
