/** The composition root of the worker process. */

import { loadWorkerConfig } from '../config.ts';
import { openProvider } from '../payments/open.ts';
import { runProcess } from '../process.ts';
import { openStores } from '../stores/open.ts';
import { startWorker } from './service.ts';

await runProcess('worker', loadWorkerConfig, async (config, log) =>
  startWorker(config, { stores: await openStores(config, log), provider: openProvider(config), log }),
);
