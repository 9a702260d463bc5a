/**
 * A checkout of real processes, one of which dies at its cue so that another of
 * its kind can take over. Each checkout has a Redis, a database and a namespace
 * of its own, because a relay follows every sale that its Redis holds.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import { pino } from 'pino';
import { openConsole, type SandboxConsole } from '../../sandbox/console.ts';
import { createSandboxProvider } from '../../sandbox/server.ts';
import type { PaymentProvider } from '../../src/providers/provider.ts';
import { createRemoteAdapter } from '../../src/providers/remote.ts';
import { markOf } from '../../src/providers/signed-order.ts';
import { saleKeys } from '../../src/redis/keys.ts';
import type { Sale } from '../../src/sales/sale.ts';
import { appEnv, demoSecrets, startApi, startWorker, type AppEnv } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import type { Processes } from '../../stack/processes/processes.ts';
import { CUES, frozenAt, lastWords, type CueName } from '../compositions/cues.ts';
import { ageClaim, ageRelay } from '../support/ageing.ts';
import { buildSale } from '../support/factories.ts';
import { openPrivateStage } from '../support/private-stage.ts';
import { openShopper, JWT_SECRET, type Shopper } from '../support/shopper.ts';
import type { TestStores } from '../support/stores.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { waitFor } from '../support/wait.ts';
import { openEngine } from '../support/workflows/engines.ts';
import { findMissing } from './aims.ts';

/** Far longer than a new API needs to come up. */
const RETRY_DELAYS_MS = Array.from({ length: 600 }, () => 100);

/** A worker's, of orders, refunds and deliveries. */
const CLAIMS = ['start', 'end', 'refund', 'push'] as const;

export interface Doom {
  part: 'api' | 'worker';
  cue: CueName;
  /** It does not die there, but freezes until `thaw`. A worker alone can. */
  freezes?: true;
  /** Where it dies after that. */
  diesAt?: CueName;
  sale?: Partial<Sale>;
  /** Nothing of the other kind runs until the death; it starts with the one that takes over. */
  withoutOther?: boolean;
  env?: AppEnv;
}

export interface CrashWorld {
  stores: TestStores;
  client: Client;
  provider: PaymentProvider;
  /** What the provider's staff do there. */
  providerConsole: SandboxConsole;
  /** Of ten lamps, two to a user. */
  saleId: string;
  apiUrl: string;
  shopper(): Promise<Shopper>;
  outboxLength(): Promise<number>;
  /** Notices that the provider has got a 2xx for. */
  deliveries(): number;
  /** Waits until the doomed process has died: of SIGKILL, and at its cue. */
  awaitDeath(): Promise<void>;
  /** Waits until the doomed process has frozen at its cue. */
  awaitFreeze(): Promise<void>;
  thaw(): void;
  /** Whether the doomed process has logged this. */
  hasLogged(line: string): boolean;
  /**
   * Starts one that is to live. Meanwhile the relay of the dead one has been silent for a minute, and its
   * claims have run out, unless `claimsLast`: then only its relay is old.
   */
  takeOver(options?: { claimsLast?: boolean }): Promise<void>;
  /** How many processes have died without being stopped. */
  deaths(): number;
}

/** With the doomed process and a living one of the other kind. `onClose` takes what ends all of it. */
export async function openCrashWorld(
  doom: Doom,
  onClose: (close: () => Promise<void>) => void,
): Promise<CrashWorld> {
  const { cue: firstCue, diesAt = firstCue } = doom;
  for (const cue of [firstCue, diesAt])
    assert.deepEqual(findMissing(CUES[cue]), [], `the product does not send that at which ${cue} is aimed`);
  const { stores, namespace, servers } = await openPrivateStage(onClose);
  const { client, close: closeEngine } = await openEngine(namespace);
  onClose(closeEngine);
  const apiPort = await findFreePort();
  const apiUrl = `http://127.0.0.1:${apiPort}`;
  const { provider, providerUrl, deliveries } = await openProvider(apiUrl, stores, onClose);
  const env = {
    ...appEnv({
      servers,
      urls: { apiUrl, providerUrl },
    }),
    TEMPORAL_NAMESPACE: namespace,
    JWT_SECRET,
    ...doom.env,
  };
  const { saleId } = await stores.openSale(buildSale(doom.sale));
  // It opened before there was a feed, so that the first events are those of its orders.
  await stores.pool.query(
    'UPDATE sales SET opened_at = (SELECT begun_at FROM event_dispatch) - INTERVAL 1 HOUR WHERE sale_id = ?',
    [saleId],
  );
  const crashes: Error[] = [];
  const { processes, close: closeProcesses } = await openTestProcesses((crash) => crashes.push(crash));
  onClose(closeProcesses);
  const other = doom.part === 'api' ? 'worker' : 'api';
  await Promise.all([
    startPart(processes, doom.part, env, doom),
    ...(doom.withoutOther === true ? [] : [startPart(processes, other, env)]),
  ]);
  const doomed = `doomed-${doom.part}`;
  const hasLogged = (line: string) => readFileSync(processes.logFile(doomed), 'utf8').includes(line);
  return {
    stores,
    client,
    provider,
    providerConsole: openConsole({ url: providerUrl, apiKey: demoSecrets.providerApiKey }),
    saleId,
    apiUrl,
    shopper: () => openShopper(apiUrl),
    outboxLength: () => stores.redis.xlen(saleKeys({ saleId, shard: 0 }).outbox),
    deliveries,
    async awaitDeath() {
      const death = `the death at ${diesAt}: ${JSON.stringify(CUES[diesAt])}`;
      const crash = await waitFor(death, () => crashes[0]);
      assert.match(
        crash.message,
        new RegExp(`^doomed-${doom.part} stopped unexpectedly \\(killed by SIGKILL\\)`),
      );
      assert.equal(crash.message.split('\n').at(-1), lastWords(diesAt));
    },
    async awaitFreeze() {
      const freeze = `the freeze at ${firstCue}: ${JSON.stringify(CUES[firstCue])}`;
      await waitFor(freeze, () => hasLogged(frozenAt(firstCue)));
    },
    thaw: () => processes.thaw(doomed),
    hasLogged,
    async takeOver({ claimsLast = false } = {}) {
      await ageRelay(stores.redis, saleId);
      if (!claimsLast) await Promise.all(CLAIMS.map((claim) => ageClaim(stores.pool, claim, 'all')));
      await startPart(processes, doom.part, env);
      if (doom.withoutOther === true) await startPart(processes, other, env);
    },
    deaths: () => crashes.length,
  };
}

/** The provider runs in this process, because no crash point kills it. */
export async function openProvider(
  apiUrl: string,
  { deployment }: TestStores,
  onClose: (close: () => Promise<void>) => void,
) {
  await deployment.check();
  const log: string[] = [];
  const sandbox = await createSandboxProvider({
    host: '127.0.0.1',
    apiKey: demoSecrets.providerApiKey,
    webhookUrl: `${apiUrl}/v1/webhooks/payments`,
    webhookSecret: demoSecrets.webhook,
    retryDelaysMs: RETRY_DELAYS_MS,
    logger: pino({ level: 'debug' }, { write: (line: string) => log.push(line) }),
  }).start(0);
  onClose(() => sandbox.stop());
  const provider = createRemoteAdapter({
    name: 'sandbox',
    baseUrl: sandbox.url,
    apiKey: demoSecrets.providerApiKey,
    webhookSecrets: [demoSecrets.webhook],
    deployment: markOf(deployment.known()),
    requestTimeoutMs: 60_000,
  });
  const deliveries = () => log.filter((line) => line.includes('"event delivered"')).length;
  return { provider, providerUrl: sandbox.url, deliveries };
}

function startPart(processes: Processes, part: Doom['part'], env: AppEnv, doom?: Doom): Promise<void> {
  const start = part === 'api' ? startApi : startWorker;
  if (!doom) return start(processes, { name: part, env });
  const script = join('test', 'compositions', `crashing-${part}.js`);
  const args = [doom.cue, ...(doom.freezes ? ['freezes'] : []), ...(doom.diesAt ? [doom.diesAt] : [])];
  return start(processes, { name: `doomed-${part}`, env, script, args });
}
