/**
 * API and worker as processes, on stores of their own, and a real Prometheus. Its alerts are those of
 * `monitoring/alerts.yaml` at ten times their speed, or at their own with ALERTS_IN_REAL_TIME=1.
 */

import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect } from 'vitest';
import { parse, stringify } from 'yaml';
import { z } from 'zod';
import { appEnv, startApi, startWorker, type AppEnv } from '../../stack/app.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import type { Processes } from '../../stack/processes/processes.ts';
import { openPrivateStage, type PrivateStage } from './private-stage.ts';
import { JWT_SECRET } from './shopper.ts';
import { openTestProcesses } from './test-processes.ts';
import { tool } from './tools.ts';
import { waitFor } from './wait.ts';

const alertsReply = z.object({
  data: z.object({
    alerts: z.array(z.object({ labels: z.record(z.string(), z.string()), state: z.string() })),
  }),
});
const queryReply = z.object({ data: z.object({ result: z.array(z.unknown()) }) });
const targetsReply = z.object({
  data: z.object({ activeTargets: z.array(z.object({ health: z.string() })) }),
});
const rulesFile = z.object({
  groups: z.array(
    z.looseObject({
      interval: z.string(),
      rules: z.array(z.looseObject({ expr: z.string(), for: z.string().optional() })),
    }),
  ),
});

const SPEED = process.env['ALERTS_IN_REAL_TIME'] === undefined ? 10 : 1;
/**
 * A scrape may take as long as the pause between two. On a busy machine some take over a second, and a target
 * whose scrape takes too long is down until the next.
 */
const SCRAPE_MS = Math.max(2_000, 5_000 / SPEED);
const EVALUATE_MS = 5_000 / SPEED;
/** A rate needs two scrapes, of which one may fail. */
const MIN_RANGE_MS = 3 * SCRAPE_MS;
/** The longest rule looks at five minutes, and a busy machine takes longer for each part of it. */
const FIRED_WITHIN_MS = SPEED === 1 ? 8 * 60_000 : 120_000;
/** Of a test that waits for an alert. */
export const ALERT_TIMEOUT_MS = FIRED_WITHIN_MS + 30_000;

export interface WatchedShop extends PrivateStage {
  processes: Processes;
  apiUrl: string;
  /** Of API and worker. */
  env: AppEnv;
  /** Names of the alerts that fire, those with a store with its name: `HoldfastStoreAway mysql`. */
  firing(): Promise<string[]>;
  /** Until the alert fires; prints how many seconds that took. */
  fires(alert: string): Promise<void>;
  /** Until no alert fires. */
  isQuiet(what: string): Promise<void>;
  /** Until the query has a result. */
  shows(what: string, expr: string): Promise<void>;
}

interface WatchedShopOptions {
  onClose: (close: () => Promise<void>) => void;
  /** Of a server that only this test has; by default a database on that of the run. */
  mysqlUrl?: string;
  /** More settings of API and worker. */
  env?: AppEnv;
}

/** All are scraped when it is open, and no alert fires. */
export async function openWatchedShop(options: WatchedShopOptions): Promise<WatchedShop> {
  const { onClose, mysqlUrl } = options;
  const stage = await openPrivateStage(onClose, mysqlUrl);
  const { processes, close } = await openTestProcesses((crash) => expect.unreachable(crash.message));
  onClose(close);
  const apiPort = await findFreePort();
  const workerPort = await findFreePort();
  const sdkPort = await findFreePort();
  const ownPort = await findFreePort();
  const apiUrl = `http://127.0.0.1:${apiPort}`;
  const env = {
    ...appEnv({ servers: stage.servers, urls: { apiUrl, providerUrl: 'http://127.0.0.1:1' } }),
    TEMPORAL_NAMESPACE: stage.namespace,
    JWT_SECRET,
    WORKER_PORT: String(workerPort),
    TEMPORAL_METRICS_PORT: String(sdkPort),
    ...options.env,
  };
  await Promise.all([
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);
  await startPrometheus(processes, tool('prometheus'), ownPort, [
    ['api', apiPort],
    ['worker', workerPort],
    ['temporal-sdk', sdkPort],
  ]);

  const get = async (path: string): Promise<unknown> =>
    (await fetch(`http://127.0.0.1:${ownPort}/api/v1/${path}`)).json();
  const firing = async (): Promise<string[]> =>
    alertsReply
      .parse(await get('alerts'))
      .data.alerts.filter(({ state }) => state === 'firing')
      .map(({ labels: { alertname = '', store } }) =>
        store === undefined ? alertname : `${alertname} ${store}`,
      );
  const isQuiet = (what: string): Promise<unknown> =>
    waitFor(what, async () => (await firing()).length === 0, FIRED_WITHIN_MS);

  await waitFor(
    'all to be scraped',
    async () => {
      const { activeTargets } = targetsReply.parse(await get('targets')).data;
      return activeTargets.length === 3 && activeTargets.every(({ health }) => health === 'up');
    },
    FIRED_WITHIN_MS,
  );
  await isQuiet('no alert');
  return {
    ...stage,
    processes,
    apiUrl,
    env,
    firing,
    async fires(alert) {
      const sinceMs = Date.now();
      await waitFor(alert, async () => (await firing()).includes(alert), FIRED_WITHIN_MS);
      console.log(`${alert} after ${((Date.now() - sinceMs) / 1_000).toFixed(1)} s`);
    },
    async isQuiet(what) {
      await isQuiet(what);
    },
    async shows(what, expr) {
      const path = `query?${new URLSearchParams({ query: expr }).toString()}`;
      await waitFor(
        what,
        async () => queryReply.parse(await get(path)).data.result.length > 0,
        FIRED_WITHIN_MS,
      );
    },
  };
}

async function startPrometheus(
  processes: Processes,
  command: string,
  ownPort: number,
  targets: readonly [job: string, port: number][],
): Promise<void> {
  const config = join(processes.dataDir, 'prometheus.json');
  const rules = join(processes.dataDir, 'alerts.yaml');
  await writeFile(rules, speedUp(await readFile(join(repoDir, 'monitoring', 'alerts.yaml'), 'utf8')));
  await writeFile(
    config,
    JSON.stringify({
      global: { scrape_interval: `${SCRAPE_MS}ms`, evaluation_interval: `${EVALUATE_MS}ms` },
      rule_files: [rules],
      scrape_configs: targets.map(([job, port]) => ({
        job_name: job,
        static_configs: [{ targets: [`127.0.0.1:${port}`] }],
      })),
    }),
  );
  const storage = join(processes.dataDir, 'prometheus');
  await processes.start({
    name: 'prometheus',
    command,
    args: [
      `--config.file=${config}`,
      `--storage.tsdb.path=${storage}`,
      `--web.listen-address=127.0.0.1:${ownPort}`,
    ],
    env: process.env,
    cwd: processes.dataDir,
    marker: storage,
    isReady: async () => (await fetch(`http://127.0.0.1:${ownPort}/-/ready`)).ok,
    readyTimeoutMs: 30_000,
    stopTimeoutMs: 20_000,
  });
}

/**
 * Divides what a rule waits for, the ranges that it reads, and its thresholds of 100 s and more. Thresholds
 * of seconds stay, because API and worker read what they judge at their own pace. A range keeps three
 * scrapes, and a count of steps lets as many of them be missing as before.
 */
function speedUp(rules: string): string {
  const { groups } = rulesFile.parse(parse(rules));
  return stringify({
    groups: groups.map((group) => ({
      ...group,
      interval: shorten(group.interval),
      rules: group.rules.map((rule) => ({
        ...rule,
        expr: speedUpExpr(rule.expr),
        ...(rule.for !== undefined && { for: shorten(rule.for) }),
      })),
    })),
  });
}

const STEP_COUNT = /(count_over_time\([^[]*\[(\w+):(\w+)\]\)) > (\d+)/g;

function speedUpExpr(expr: string): string {
  return expr
    .replaceAll(STEP_COUNT, (_, call: string, range: string, step: string, least: string) => {
      const mayBeMissing = msOf(range) / msOf(step) - Number(least);
      return `${call} > ${rangeMs(range) / stepMs(step) - mayBeMissing}`;
    })
    .replaceAll(
      /\[(\w+)(?::(\w+))?\]/g,
      (_, range: string, step?: string) =>
        `[${rangeMs(range)}ms${step === undefined ? '' : `:${stepMs(step)}ms`}]`,
    )
    .replaceAll(/> (\d{3,})\b/g, (_, seconds: string) => `> ${Number(seconds) / SPEED}`);
}

const rangeMs = (range: string): number => Math.max(MIN_RANGE_MS, msOf(range) / SPEED);
/** A shorter step would read a scrape several times. */
const stepMs = (step: string): number => Math.max(SCRAPE_MS, msOf(step) / SPEED);
const shorten = (duration: string): string => `${msOf(duration) / SPEED}ms`;

const UNITS_MS: Record<string, number> = { s: 1_000, m: 60_000 };

/** @param duration as in "5m" */
function msOf(duration: string): number {
  const [, count, unit = ''] = /^(\d+)([sm])$/.exec(duration) ?? [];
  const ms = Number(count) * (UNITS_MS[unit] ?? NaN);
  assert(Number.isFinite(ms), `a duration that is not understood: ${duration}`);
  return ms;
}
