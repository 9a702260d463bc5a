/** A real Prometheus, by the alerts as they are, says within half a minute what has failed. */

import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { z } from 'zod';
import { createSecret } from '../../src/push/deliverer.ts';
import { appEnv, startApi, startWorker } from '../../stack/app.ts';
import { locatePrometheus } from '../../stack/install/prometheus.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { buildSale } from '../support/factories.ts';
import { openPrivateStage } from '../support/private-stage.ts';
import { JWT_SECRET, openShopper } from '../support/shopper.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});

const alertsReply = z.object({
  data: z.object({
    alerts: z.array(z.object({ labels: z.object({ alertname: z.string() }), state: z.string() })),
  }),
});
const dashboard = z
  .object({
    panels: z.array(z.object({ title: z.string(), targets: z.array(z.object({ expr: z.string() })) })),
  })
  .parse(JSON.parse(readFileSync(join(repoDir, 'monitoring', 'dashboard.json'), 'utf8')));
const queryReply = z.object({ data: z.object({ result: z.array(z.unknown()) }) });
const targetsReply = z.object({
  data: z.object({ activeTargets: z.array(z.object({ health: z.string() })) }),
});
/** The alert fires within half a minute; a busy machine takes longer for each part of it. */
const FIRED_WITHIN_MS = 120_000;
/** Bounds a hang: three faults, each with its alert and its end. */
const ALL_WITHIN_MS = 8 * 60_000;

test(
  'a frozen worker fires an alert, and a thawed one ends it; so do no worker and a store that is away',
  async () => {
    const { prometheus } = await locatePrometheus(console.log);
    const { stores, redis, namespace, servers } = await openPrivateStage((close) => void closers.push(close));
    const { processes, close } = await openTestProcesses((crash) => expect.unreachable(crash.message));
    closers.push(close);
    const ports = [await findFreePort(), await findFreePort(), await findFreePort(), await findFreePort()];
    const [apiPort = 0, workerPort = 0, sdkPort = 0, ownPort = 0] = ports;
    const env = {
      ...appEnv({
        servers,
        urls: { apiUrl: `http://127.0.0.1:${apiPort}`, providerUrl: 'http://127.0.0.1:1' },
      }),
      TEMPORAL_NAMESPACE: namespace,
      JWT_SECRET,
      WORKER_PORT: String(workerPort),
      TEMPORAL_METRICS_PORT: String(sdkPort),
    };
    const { saleId } = await stores.openSale(buildSale());
    await Promise.all([
      startApi(processes, { name: 'api', env }),
      startWorker(processes, { name: 'worker', env }),
    ]);

    const config = join(processes.dataDir, 'prometheus.json');
    await writeFile(
      config,
      JSON.stringify({
        global: { scrape_interval: '5s', evaluation_interval: '5s' },
        rule_files: [join(repoDir, 'monitoring', 'alerts.yaml')],
        scrape_configs: [
          {
            job_name: 'api',
            static_configs: [{ targets: [`127.0.0.1:${apiPort}`] }],
          },
          {
            job_name: 'worker',
            static_configs: [{ targets: [`127.0.0.1:${workerPort}`] }],
          },
          {
            job_name: 'temporal-sdk',
            static_configs: [{ targets: [`127.0.0.1:${sdkPort}`] }],
          },
        ],
      }),
    );
    const url = `http://127.0.0.1:${ownPort}`;
    const storage = join(processes.dataDir, 'prometheus');
    await processes.start({
      name: 'prometheus',
      command: prometheus,
      args: [
        `--config.file=${config}`,
        `--storage.tsdb.path=${storage}`,
        `--web.listen-address=127.0.0.1:${ownPort}`,
      ],
      env: process.env,
      cwd: processes.dataDir,
      marker: storage,
      isReady: async () => (await fetch(`${url}/-/ready`)).ok,
      readyTimeoutMs: 30_000,
      stopTimeoutMs: 20_000,
    });
    const firing = async (): Promise<string[]> => {
      const reply = alertsReply.parse(await (await fetch(`${url}/api/v1/alerts`)).json());
      return reply.data.alerts.flatMap(({ labels, state }) => (state === 'firing' ? [labels.alertname] : []));
    };
    await waitFor(
      'all to be scraped',
      async () => {
        const { data } = targetsReply.parse(await (await fetch(`${url}/api/v1/targets`)).json());
        return data.activeTargets.length === 3 && data.activeTargets.every(({ health }) => health === 'up');
      },
      FIRED_WITHIN_MS,
    );
    await waitFor('no alert', async () => (await firing()).length === 0, FIRED_WITHIN_MS);

    // A panel shows a rate with the second scrape.
    await stores.eventConsumers.commit('books', 0, false);
    const terms = { url: 'http://127.0.0.1:1/', types: null, saleId: null, description: '' };
    await stores.endpoints.put('office', terms, createSecret(), 'olga');
    // It never takes an event, and is no fault of the sale.
    await stores.endpoints.disable('office', 'olga');
    for (const { title, targets } of dashboard.panels)
      for (const { expr } of targets)
        await waitFor(
          `the panel ${title} to show ${expr}`,
          async () => {
            const reply = await fetch(
              `${url}/api/v1/query?${new URLSearchParams({ query: expr }).toString()}`,
            );
            return queryReply.parse(await reply.json()).data.result.length > 0;
          },
          FIRED_WITHIN_MS,
        );

    processes.freeze('worker');
    const frozenAtMs = Date.now();
    await (await openShopper(`http://127.0.0.1:${apiPort}`)).buy(saleId);
    await waitFor(
      'the alert',
      async () => (await firing()).includes('HoldfastWorkerSilent'),
      FIRED_WITHIN_MS,
    );
    console.log(`HoldfastWorkerSilent after ${((Date.now() - frozenAtMs) / 1_000).toFixed(1)} s`);
    await waitFor(
      'the others',
      async () => {
        const names = await firing();
        return ['HoldfastNoWorker', 'HoldfastOutboxOld'].every((name) => names.includes(name));
      },
      FIRED_WITHIN_MS,
    );
    console.log(
      `HoldfastNoWorker and HoldfastOutboxOld after ${((Date.now() - frozenAtMs) / 1_000).toFixed(1)} s`,
    );

    processes.thaw('worker');
    await waitFor('all to end', async () => (await firing()).length === 0, FIRED_WITHIN_MS);

    const fires = async (alert: string): Promise<void> => {
      const sinceMs = Date.now();
      await waitFor(alert, async () => (await firing()).includes(alert), FIRED_WITHIN_MS);
      console.log(`${alert} after ${((Date.now() - sinceMs) / 1_000).toFixed(1)} s`);
    };
    await processes.stop('worker');
    await fires('HoldfastNoWorker');
    // One that is stopped takes itself off.
    expect(await firing()).not.toContain('HoldfastWorkerSilent');
    await startWorker(processes, { name: 'worker', env });
    await waitFor('the worker to be seen', async () => (await firing()).length === 0, FIRED_WITHIN_MS);

    redis.freeze();
    try {
      await fires('HoldfastStoreAway');
    } finally {
      redis.thaw();
    }
    await waitFor('the store to be back', async () => (await firing()).length === 0, FIRED_WITHIN_MS);
  },
  ALL_WITHIN_MS,
);
