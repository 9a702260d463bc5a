/** The example shop in front of Holdfast, all of it real processes. */

import { execFile } from 'node:child_process';
import { mkdir, readFile, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { z } from 'zod';
import { appEnv, startApi, startProvider, startWorker } from '../../stack/app.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { canConnect, findFreePort } from '../../stack/processes/ports.ts';
import { openPrivateStage } from '../support/private-stage.ts';
import { openTestProcesses } from '../support/test-processes.ts';

const run = promisify(execFile);
const shopDir = join(repoDir, 'examples', 'shop');
/** Bounds a hang; says nothing of how fast a process must start. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 10_000;

/** A line of the back office's book. */
const entry = z.object({
  eventId: z.string(),
  by: z.enum(['feed', 'push']),
  orderNo: z.string(),
  reference: z.string(),
  userId: z.string(),
  task: z.string(),
  parcel: z.array(z.object({ sku: z.string(), quantity: z.int(), shelf: z.string() })).optional(),
  /** Minor units. */
  paid: z.int().optional(),
  refunded: z.int().optional(),
});
export type Entry = z.infer<typeof entry>;

export interface ShopWorld {
  shopUrl: string;
  apiUrl: string;
  /** Runs one of the shop's programs to its end. @returns what it printed; throws what it complained of */
  runProgram(script: string, ...args: string[]): Promise<string>;
  startBackOffice(): Promise<void>;
  killBackOffice(): Promise<void>;
  backOfficeLog(): Promise<string>;
  readBook(): Promise<Entry[]>;
}

/** Holdfast and the storefront run; the sale is not published, and the back office is not there yet. */
export async function openShopWorld(onClose: (close: () => Promise<void>) => void): Promise<ShopWorld> {
  const { namespace, servers } = await openPrivateStage(onClose);
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  onClose(close);

  await linkClient();
  const [apiUrl, providerUrl, shopUrl, backOfficeUrl] = await findAddresses();
  const urls = { apiUrl, providerUrl, returnUrl: `${shopUrl}/` };
  const env = {
    ...appEnv({ servers, urls }),
    TEMPORAL_NAMESPACE: namespace,
    // As in examples/shop/holdfast.env, at other ports.
    JWT_JWKS_URL: `${shopUrl}/.well-known/jwks.json`,
    JWT_ISSUER: `${shopUrl},holdfast`,
    CORS_ORIGINS: shopUrl,
    PUSH_ALLOW_PRIVATE: 'true',
  };
  const shopData = join(processes.dataDir, 'shop');
  const shopEnv = {
    ...process.env,
    HOLDFAST_URL: apiUrl,
    SHOP_URL: shopUrl,
    BACK_OFFICE_URL: backOfficeUrl,
    SHOP_DATA: shopData,
  };
  const startProgram = (name: string, script: string, url: string) =>
    processes.start({
      name,
      command: process.execPath,
      args: [join(shopDir, script)],
      env: shopEnv,
      cwd: shopDir,
      marker: join(shopDir, script),
      isReady: () => canConnect('127.0.0.1', Number(new URL(url).port)),
      readyTimeoutMs: START_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
  await startProgram('storefront', 'storefront/main.js', shopUrl);
  await Promise.all([
    startProvider(processes, urls),
    startApi(processes, { name: 'api', env }),
    startWorker(processes, { name: 'worker', env }),
  ]);

  return {
    shopUrl,
    apiUrl,
    async runProgram(script, ...args) {
      const { stdout } = await run(process.execPath, [script, ...args], { cwd: shopDir, env: shopEnv });
      return stdout;
    },
    startBackOffice: () => startProgram('back-office', 'back-office/main.js', backOfficeUrl),
    killBackOffice: () => processes.kill('back-office'),
    backOfficeLog: () => readFile(processes.logFile('back-office'), 'utf8'),
    async readBook() {
      const book = await readFile(join(shopData, 'fulfilled.jsonl'), 'utf8');
      return book
        .split('\n')
        .filter((line) => line !== '')
        .map((line) => entry.parse(JSON.parse(line)));
    },
  };
}

/** As `npm install` in the shop's folder does; its other packages are found in ours. */
async function linkClient(): Promise<void> {
  const scope = join(shopDir, 'node_modules', '@holdfast');
  await mkdir(scope, { recursive: true });
  await symlink(join(repoDir, 'packages', 'client'), join(scope, 'client')).catch((error: unknown) => {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  });
}

async function findAddresses(): Promise<[string, string, string, string]> {
  const address = async (): Promise<string> => `http://127.0.0.1:${await findFreePort()}`;
  return [await address(), await address(), await address(), await address()];
}
