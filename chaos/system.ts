/**
 * The system under test: real servers, two APIs, two workers
 * and the provider, each pair joined by a proxied wire.
 */

import { Client, Connection } from '@temporalio/client';
import { pino } from 'pino';
import { openConsole, type SandboxConsole } from '../sandbox/console.ts';
import type { AuditDeps } from '../src/audit/look.ts';
import { migrate } from '../src/mysql/migrate.ts';
import { openProvider } from '../src/providers/open.ts';
import { createPaced } from '../src/providers/pacing.ts';
import { openStores, type Stores } from '../src/stores/open.ts';
import { appEnv, demoSecrets, startApi, startProvider, startWorker } from '../stack/app.ts';
import { locateServers, type Found, type ServerPackage } from '../stack/install/server-packages.ts';
import { findFreePort } from '../stack/processes/ports.ts';
import type { Processes } from '../stack/processes/processes.ts';
import { waitUntil } from '../stack/processes/wait.ts';
import { mysqlPackage, startMysql } from '../stack/servers/mysql.ts';
import { redisPackage } from '../stack/servers/redis.ts';
import { locateTemporal, removeTemporalData, startTemporal } from '../stack/servers/temporal.ts';
import { startToxiproxy } from '../stack/servers/toxiproxy.ts';
import { createLinks, type Link, type Links } from './links.ts';
import { startNeighbour, type Neighbour } from './neighbour.ts';
import { createRedisServer, type RedisServer } from './redis-server.ts';

/** A process that cannot start, because what it needs is struck too, is started again until then. */
const RESTART_TIMEOUT_MS = 90_000;
/** Longer than any fault of the provider, with its restart. */
const PROVIDER_PATIENCE_MS = 120_000;
/** For the auditor and the stock watch, which read only and start nothing in the engine. */
const READ_ONLY = { ENGINE_BUDGET: 1, MYSQL_STORES_PER_SECOND: 1 };

/** The sandbox has no bound of its own; what its mischief puts off is asked again. */
const PROVIDER_CALLS_PER_SECOND = 1_000;

const STORES = ['redis', 'mysql', 'temporal'] as const;
const APIS = ['api-1', 'api-2'] as const;
const WORKERS = ['worker-1', 'worker-2'] as const;

/** A process that can be struck. */
export interface Part {
  name: string;
  /** Under which its process was started; that of Redis changes when a replica takes over. */
  processName(): string;
  kill(): Promise<void>;
  /** SIGTERM: it ends in order. */
  stop(): Promise<void>;
  /** On the same address and the same files. */
  start(): Promise<void>;
  freeze(): void;
  thaw(): void;
}

export interface System extends AuditDeps {
  stores: Stores;
  parts: Part[];
  links: Link[];
  redis: RedisServer;
  /** Another deployment on the same servers. */
  neighbour: Neighbour;
  /** While Temporal is down. */
  removeTemporalData(): Promise<void>;
  /** What the provider's staff do there; no wire is in between, and calls are repeated through its faults. */
  providerConsole: SandboxConsole;
  /** As shoppers reach them, through their wires. */
  apiUrls: string[];
  /** Processes that ended by themselves and were started again, as a supervisor would. */
  crashes: string[];
  /**
   * Closes the connections of the auditor and the watch; the
   * processes are stopped by the caller that opened them.
   */
  close(): Promise<void>;
}

/** Where each part listens, fixed for the whole run; a worker listens nowhere. */
type Ports = { [name: string]: number };

/** The caller passes `supervise` as the crash handler of the `Processes` that it hands in. */
export async function startSystem(
  processes: Processes,
  progress: (line: string) => void,
): Promise<System & { supervise(crash: Error, name: string): void }> {
  const ports: Ports = {};
  for (const name of [...STORES, 'provider', ...APIS, ...WORKERS]) ports[name] = await findFreePort();
  const starters = new Map<string, () => Promise<void>>();
  const target = (name: string): string => `127.0.0.1:${ports[name]}`;

  const servers = await startServers({ processes, ports }, starters, progress);
  const links = createLinks(await startToxiproxy(processes, progress));
  const wires = await openWires(links, target);
  const wire = (from: string, to: string): string => {
    const found = wires.find((link) => link.from === from && link.to === to);
    if (!found) throw new Error(`no wire from ${from} to ${to}`);
    return found.address;
  };

  const config = { REDIS_URL: [servers.redisUrl], MYSQL_URL: servers.mysqlUrl, ...READ_ONLY };
  const silent = pino({ level: 'silent' });
  const stores = await openStores(config, silent);
  await migrate(stores.pool, silent);
  await stores.deployment.check();

  const providerUrl = `http://${target('provider')}`;
  starters.set('provider', () =>
    startProvider(processes, { providerUrl, apiUrl: `http://${wire('provider', 'api-1')}` }),
  );
  for (const name of [...APIS, ...WORKERS]) {
    const env = appEnv({
      servers: {
        redisUrl: withHost(servers.redisUrl, wire(name, 'redis')),
        mysqlUrl: withHost(servers.mysqlUrl, wire(name, 'mysql')),
        temporalAddress: wire(name, 'temporal'),
        temporalUiUrl: undefined,
      },
      urls: { apiUrl: `http://${target(name)}`, providerUrl: `http://${wire(name, 'provider')}` },
    });
    const start = name.startsWith('api') ? startApi : startWorker;
    starters.set(name, () => start(processes, { name, env }));
  }
  const crashes: string[] = [];
  const processNameOf = (name: string) => (name === 'redis' ? servers.redis.processName() : name);
  const parts = [...starters].map(([name, start]) =>
    toPart({ processes, name, start, processName: () => processNameOf(name) }),
  );
  await Promise.all(['provider', ...APIS, ...WORKERS].map(async (name) => starters.get(name)?.()));

  const connection = await Connection.connect({ address: servers.temporalAddress });
  const client = new Client({ connection });
  const { redisUrl, mysqlUrl, temporalAddress } = servers;
  const env = appEnv({
    servers: { redisUrl, mysqlUrl, temporalAddress, temporalUiUrl: undefined },
    urls: { apiUrl: `http://${target('api-1')}`, providerUrl },
  });
  const neighbour = await startNeighbour(processes, { first: stores, config, env, client });
  return {
    stores,
    client,
    neighbour,
    provider: openProvider(
      {
        PAYMENT_PROVIDER_URL: providerUrl,
        PAYMENT_PROVIDER_API_KEY: demoSecrets.providerApiKey,
        WEBHOOK_SECRETS: [demoSecrets.webhook],
      },
      stores.deployment,
      createPaced(stores.providerPace(PROVIDER_CALLS_PER_SECOND), 'background'),
    ),
    parts,
    providerConsole: openConsole({
      url: providerUrl,
      apiKey: demoSecrets.providerApiKey,
      patienceMs: PROVIDER_PATIENCE_MS,
    }),
    links: wires,
    redis: servers.redis,
    removeTemporalData: () => removeTemporalData(processes.dataDir),
    apiUrls: APIS.map((name) => `http://${wire('shoppers', name)}`),
    crashes,
    supervise(crash, name) {
      crashes.push(name);
      progress(`${crash.message.split('\n')[0]}: starting it again`);
      // If it fails to come back, the probe that waits for the system to recover fails.
      const part = parts.find((one) => one.processName() === name);
      const start = part?.start ?? neighbour.starters.get(name);
      start?.().catch((error: unknown) => progress(String(error)));
    },
    async close() {
      await connection.close();
      await neighbour.close();
      await stores.close();
    },
  };
}

async function startServers(
  where: { processes: Processes; ports: Ports },
  starters: Map<string, () => Promise<void>>,
  progress: (line: string) => void,
) {
  const { processes, ports } = where;
  const [redis, mysql] = await locateServers([redisPackage, mysqlPackage], progress);
  const binary = await locateTemporal(progress);
  const uiPort = await findFreePort();
  const base = (name: string) => ({
    processes,
    fresh: false,
    durable: true,
    ...(ports[name] === undefined ? {} : { preferredPort: ports[name] }),
  });
  const redisServer = createRedisServer({
    processes,
    found: asProgram(redis, redisPackage),
    port: ports['redis'] ?? (await findFreePort()),
  });
  const start = {
    redis: redisServer.start,
    mysql: () => startMysql({ ...base('mysql'), found: asProgram(mysql, mysqlPackage) }),
    temporal: async () =>
      (await startTemporal({ ...base('temporal'), binary, preferredUiPort: uiPort })).address,
  };
  for (const name of STORES) starters.set(name, async () => void (await start[name]()));
  const [, mysqlUrl, temporalAddress] = await Promise.all([start.redis(), start.mysql(), start.temporal()]);
  return { redis: redisServer, redisUrl: redisServer.url, mysqlUrl, temporalAddress };
}

/** Killing the client of a container would not kill the server. */
export function asProgram(found: Found | undefined, server: ServerPackage): Found {
  if (found?.kind === 'binary') return found;
  throw new Error(`The chaos suite kills servers, so it needs ${server.what} as a program on PATH.`);
}

/** One between every two parts that call each other. */
async function openWires(links: Links, target: (name: string) => string): Promise<Link[]> {
  const pairs = [
    ...[...APIS, ...WORKERS].flatMap((from) =>
      [...STORES, 'provider'].map((to): [string, string] => [from, to]),
    ),
    ...APIS.map((to): [string, string] => ['shoppers', to]),
    ['provider', 'api-1'] as [string, string],
  ];
  const wires: Link[] = [];
  for (const [from, to] of pairs) wires.push(await links.open(from, to, await findFreePort(), target(to)));
  return wires;
}

function toPart(options: {
  processes: Processes;
  name: string;
  processName: () => string;
  start: () => Promise<void>;
}): Part {
  const { processes, name, processName, start } = options;
  return {
    name,
    processName,
    kill: () => processes.kill(processName()),
    stop: () => processes.stop(processName()),
    start: () =>
      waitUntil({
        what: `${name} to start again`,
        timeoutMs: RESTART_TIMEOUT_MS,
        check: async () => {
          await start();
          return true;
        },
      }),
    freeze: () => processes.freeze(processName()),
    thaw: () => processes.thaw(processName()),
  };
}

function withHost(url: string, host: string): string {
  const changed = new URL(url);
  changed.host = host;
  return changed.href;
}
