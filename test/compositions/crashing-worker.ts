/**
 * Worker and relay as src/workers/main.ts composes them, but they die, or freeze, at the cue that is named.
 */

import { loadWorkerConfig } from '../../src/config.ts';
import { openProvider } from '../../src/payments/open.ts';
import { runProcess } from '../../src/process.ts';
import { openStores } from '../../src/stores/open.ts';
import { startWorker } from '../../src/workers/service.ts';
import { armCue } from './cues.ts';

await runProcess('worker', loadWorkerConfig, async (config, log) => {
  const stores = await openStores(config, log);
  const provider = openProvider(config, stores.deployment);
  const fate = process.argv[3] === 'freezes' ? 'freezes' : 'dies';
  armCue(process.argv[2], { ...stores, provider }, config.MYSQL_URL, fate);
  return startWorker(config, { stores, provider, log });
});
