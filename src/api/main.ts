/** The API process: composition root. */

import { loadApiConfig } from '../config.ts';
import { openProvider } from '../payments/open.ts';
import { runProcess } from '../process.ts';
import { openStores } from '../stores/open.ts';
import { startApi } from './service.ts';

await runProcess('api', loadApiConfig, async (config, log) =>
  startApi(config, { stores: await openStores(config, log), provider: openProvider(config), log }),
);
