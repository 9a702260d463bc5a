/** Several API processes, each of which dies as soon as it listens. */

import cluster from 'node:cluster';
import { createServer } from 'node:net';
import { startProcesses } from '../../src/api/processes.ts';
import { loadApiConfig } from '../../src/config.ts';
import { runProcess } from '../../src/process.ts';

const BOUNDS = { replaceAfterMs: 1, replaceAfterMaxMs: 1, deathsMax: 5, deathsWithinMs: 60_000 };

if (cluster.isPrimary) {
  await runProcess('api', loadApiConfig, (config, log) =>
    startProcesses(config.API_PROCESSES, config, log, BOUNDS),
  );
} else {
  createServer().listen(Number(process.env['API_PORT']), '127.0.0.1', () => {
    setTimeout(() => process.exit(3), 100);
  });
}
