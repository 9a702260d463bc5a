/** The API as src/api/main.ts composes it, but it dies at the cue that its argument names. */

import { startApi } from '../../src/api/service.ts';
import { loadApiConfig } from '../../src/config.ts';
import { openProvider } from '../../src/payments/open.ts';
import { runProcess } from '../../src/process.ts';
import { openStores } from '../../src/stores/open.ts';
import { armCue } from './cues.ts';

await runProcess('api', loadApiConfig, async (config, log) => {
  const stores = await openStores(config, log);
  const provider = openProvider(config, stores.deployment);
  armCue(process.argv[2], { ...stores, provider }, config.MYSQL_URL);
  return startApi(config, { stores, provider, log });
});
