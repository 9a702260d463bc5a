/**
 * Starts the parts of Holdfast itself: the API, the worker and the sandbox provider, each with its
 * environment. `npm start`, the benchmarks, the chaos suite and the crash tests all start them from here.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { repoDir } from './install/repo-dir.ts';
import { canConnect, findFreePort } from './processes/ports.ts';
import type { Processes } from './processes/processes.ts';
import { asProduct } from './servers/accounts.ts';
import type { Servers } from './servers/servers.ts';

/** An end is noticed at once; this bounds a hang, and a start on a busy machine takes half a minute. */
const READY_TIMEOUT_MS = 120_000;
/** Longer than the API and the worker give the requests and tasks that they have in hand. */
const STOP_TIMEOUT_MS = 20_000;
const CALL_TIMEOUT_MS = 2_000;

/** Public, as this file is: fit for a demonstration on loopback, and for nothing else. */
export const demoSecrets = {
  jwt: 'holdfast-demo-secret-not-for-production',
  providerApiKey: 'sk_holdfast_demo',
  webhook: `whsec_${Buffer.from('holdfast-demo-webhook-secret').toString('base64')}`,
  orderSigning: 'holdfast-demo-order-signing-not-for-production',
};

export type AppUrls = {
  /** Where callers and the provider's callbacks find the API. */
  apiUrl: string;
  providerUrl: string;
  /** The shop's page to which the payment page leads back; unless given, the demo's. */
  returnUrl?: string;
};

/** Where the API and the provider listen, unless told otherwise, when these ports are free. */
export const APP_PORTS = { api: 3000, provider: 3001 };

/** Call it just before the parts start, so that no other process takes the ports meanwhile. */
export async function findAppUrls(preferred = APP_PORTS): Promise<AppUrls> {
  const apiPort = await findFreePort(preferred.api);
  const providerPort = await findFreePort(preferred.provider);
  const returnUrl = process.env['SANDBOX_RETURN_URL'];
  return {
    apiUrl: `http://127.0.0.1:${apiPort}`,
    providerUrl: `http://127.0.0.1:${providerPort}`,
    ...(returnUrl !== undefined && { returnUrl }),
  };
}

export async function startProvider(processes: Processes, urls: AppUrls): Promise<void> {
  const port = new URL(urls.providerUrl).port;
  await startScript(processes, {
    name: 'provider',
    script: join('sandbox', 'main.js'),
    env: {
      SANDBOX_PORT: port,
      SANDBOX_BOOK_FILE: join(processes.dataDir, 'sandbox-book'),
      SANDBOX_API_KEY: demoSecrets.providerApiKey,
      SANDBOX_WEBHOOK_URL: `${urls.apiUrl}/v1/webhooks/payments`,
      SANDBOX_WEBHOOK_SECRET: demoSecrets.webhook,
      SANDBOX_PUBLIC_URL: urls.providerUrl,
      SANDBOX_RETURN_URL: urls.returnUrl ?? `${urls.apiUrl}/`,
    },
    isReady: () => canConnect('127.0.0.1', Number(port)),
  });
}

/** The environment of one API or worker process; each may reach the servers through proxies of its own. */
export type AppEnv = Record<string, string>;

export function appEnv(options: { servers: Servers; urls: AppUrls; demoSaleId?: string }): AppEnv {
  const { servers, urls, demoSaleId } = options;
  return {
    NODE_ENV: 'development',
    REDIS_URL: asProduct(servers.redisUrl),
    MYSQL_URL: asProduct(servers.mysqlUrl),
    TEMPORAL_ADDRESS: servers.temporalAddress,
    TEMPORAL_NAMESPACE: process.env['TEMPORAL_NAMESPACE'] ?? 'default',
    ...(servers.temporalUiUrl === undefined ? {} : { TEMPORAL_UI_URL: servers.temporalUiUrl }),
    API_HOST: '127.0.0.1',
    API_PORT: new URL(urls.apiUrl).port,
    // No load balancer stands in front.
    DRAIN_SECONDS: '0',
    JWT_SECRET: demoSecrets.jwt,
    PAYMENT_PROVIDER_URL: urls.providerUrl,
    PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
    WEBHOOK_SECRETS: demoSecrets.webhook,
    ORDER_SIGNING_SECRETS: demoSecrets.orderSigning,
    // Endpoints of a trial are on this machine.
    PUSH_ALLOW_PRIVATE: 'true',
    // The sandbox has no bound of its own, and a benchmark opens many payment pages at once.
    PROVIDER_CALLS_PER_SECOND: '1000',
    // More often than in production, so that an operator who plays with the sandbox sees it happen.
    RECONCILE_EVERY_SECONDS: '10',
    ...(demoSaleId === undefined ? {} : { DEMO_SALE_ID: demoSaleId }),
    WORKFLOW_BUNDLE: join(repoDir, 'dist', 'workflow-bundle.js'),
  };
}

/** The API and a worker, side by side. */
export async function startApp(
  processes: Processes,
  options: { servers: Servers; urls: AppUrls; demoSaleId: string; env?: AppEnv },
): Promise<void> {
  const env = { ...appEnv(options), ...options.env };
  await Promise.all([
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);
}

export type PartOptions = {
  name: string;
  env: AppEnv;
  /** The compiled script, where it is not the product's own; its path below `dist`. */
  script?: string;
  args?: readonly string[];
};

export function startApi(processes: Processes, options: PartOptions): Promise<void> {
  return startScript(processes, {
    script: join('src', 'api', 'main.js'),
    ...options,
    isReady: async () => {
      const signal = AbortSignal.timeout(CALL_TIMEOUT_MS);
      const response = await fetch(`http://127.0.0.1:${options.env['API_PORT']}/readyz`, { signal });
      await response.body?.cancel();
      return response.ok;
    },
  });
}

export function startWorker(processes: Processes, options: PartOptions): Promise<void> {
  return startScript(processes, {
    script: join('src', 'workers', 'main.js'),
    ...options,
    // It answers probes before it works; the words in its log are part of its contract with this file.
    isReady: async () => readFileSync(processes.logFile(options.name), 'utf8').includes('worker ready'),
  });
}

async function startScript(
  processes: Processes,
  part: PartOptions & { script: string; isReady: () => Promise<boolean> },
): Promise<void> {
  const script = join(repoDir, 'dist', part.script);
  await processes.start({
    name: part.name,
    command: process.execPath,
    args: ['--enable-source-maps', script, ...(part.args ?? [])],
    env: { ...process.env, ...part.env },
    cwd: repoDir,
    marker: script,
    isReady: part.isReady,
    readyTimeoutMs: READY_TIMEOUT_MS,
    stopTimeoutMs: STOP_TIMEOUT_MS,
  });
}
