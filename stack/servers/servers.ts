/**
 * The three servers that Holdfast needs, Redis, MySQL and Temporal: those that the environment names, or ones
 * of its own in a data folder.
 */

import { mkdirSync, rmSync } from 'node:fs';
import { locateServers, type Found, type ServerPackage } from '../install/server-packages.ts';
import { stopLeftovers } from '../processes/leftovers.ts';
import { canConnect } from '../processes/ports.ts';
import { createProcesses, type CrashHandler, type Processes } from '../processes/processes.ts';
import { waitUntil } from '../processes/wait.ts';
import { createGivenDatabase, mysqlPackage, startMysql } from './mysql.ts';
import { redisPackage, startRedis } from './redis.ts';
import { locateTemporal, startTemporal } from './temporal.ts';

/** A server that the environment names either runs or does not; one that is just starting has this time. */
const GIVEN_SERVER_TIMEOUT_MS = 10_000;

type PreferredPorts = { redis?: number; mysql?: number; temporal?: number; temporalUi?: number };

export type Servers = {
  redisUrl: string;
  mysqlUrl: string;
  temporalAddress: string;
  /** Undefined when TEMPORAL_ADDRESS names a server and TEMPORAL_UI_URL does not say where its Web UI is. */
  temporalUiUrl: string | undefined;
};

export type LaunchedServers = Servers & {
  /** The path of the `temporal` CLI that serves; undefined when TEMPORAL_ADDRESS names a server. */
  temporalCli: string | undefined;
};

export type ServerOptions = {
  preferredPorts?: PreferredPorts;
  /** false: for tests, whose databases need not survive a power cut. */
  durable?: boolean;
  /** MySQL writes one, as in production; false where only the orders count. */
  binaryLog?: boolean;
  fresh: boolean;
  progress: (line: string) => void;
};

/** Starts Redis, MySQL and Temporal, or uses those that the environment names. If one fails, none is left. */
export async function startServers(
  options: ServerOptions & { dataDir: string; onCrash: (crash: Error) => void },
): Promise<Servers & { stop(): Promise<void>; killNow(): void }> {
  const processes = await openDataDir(options);
  try {
    const servers = await launchServers(processes, options);
    return { ...servers, stop: () => processes.stopAll(), killNow: () => processes.killAllNow() };
  } catch (error) {
    await processes.stopAll();
    throw error;
  }
}

/** Claims a data folder for this process: ends what a killed start left there, and wipes it when asked. */
export async function openDataDir(options: {
  dataDir: string;
  fresh: boolean;
  progress: (line: string) => void;
  onCrash: CrashHandler;
}): Promise<Processes> {
  const { dataDir, progress, onCrash } = options;
  await stopLeftovers({ dataDir, progress });
  if (options.fresh) rmSync(dataDir, { recursive: true, force: true });
  mkdirSync(dataDir, { recursive: true });
  return createProcesses({ dataDir, onCrash });
}

/** Starts the three side by side. On failure the caller stops `processes`, also those that still start. */
export async function launchServers(processes: Processes, options: ServerOptions): Promise<LaunchedServers> {
  const located = locateStores(options.progress);
  const [redisUrl, mysqlUrl, temporal] = await Promise.all([
    located.then(({ redis }) => launchRedis(processes, options, redis)),
    located.then(({ mysql }) => launchMysql(processes, options, mysql)),
    launchTemporal(processes, options),
  ]);
  const { address, uiUrl, cli } = temporal;
  return { redisUrl, mysqlUrl, temporalAddress: address, temporalUiUrl: uiUrl, temporalCli: cli };
}

/**
 * Redis and MySQL, unless the environment names them. Both are located before either is started, so that
 * apt-get is asked once for what is missing.
 */
export async function locateStores(
  progress: (line: string) => void,
): Promise<{ redis: Found | undefined; mysql: Found | undefined }> {
  const isGiven = ({ variable }: ServerPackage): boolean => Boolean(process.env[variable]);
  const wanted = [redisPackage, mysqlPackage].filter((server) => !isGiven(server));
  const located = await locateServers(wanted, progress);
  const foundOf = (server: ServerPackage): Found | undefined => located[wanted.indexOf(server)];
  return { redis: foundOf(redisPackage), mysql: foundOf(mysqlPackage) };
}

async function launchRedis(
  processes: Processes,
  { fresh, durable = true, preferredPorts: ports = {} }: ServerOptions,
  found: Found | undefined,
): Promise<string> {
  if (found) return startRedis({ processes, found, fresh, durable, ...preferred(ports.redis) });
  const given = process.env['REDIS_URL'] ?? '';
  return useGiven('REDIS_URL', given, urlTarget(given, 6379));
}

/** @param found undefined: the environment names one */
export async function launchMysql(
  processes: Processes,
  { fresh, durable = true, binaryLog = false, preferredPorts: ports = {} }: ServerOptions,
  found: Found | undefined,
): Promise<string> {
  if (found) return startMysql({ processes, found, fresh, durable, binaryLog, ...preferred(ports.mysql) });
  const given = process.env['MYSQL_URL'] ?? '';
  return useGivenMysql(given);
}

export async function launchTemporal(
  processes: Processes,
  options: ServerOptions,
): Promise<{ address: string; uiUrl: string | undefined; cli: string | undefined }> {
  const given = process.env['TEMPORAL_ADDRESS'];
  if (given) {
    await useGiven('TEMPORAL_ADDRESS', given, urlTarget(`temporal://${given}`, 7233));
    return { address: given, uiUrl: process.env['TEMPORAL_UI_URL'], cli: undefined };
  }
  const { preferredPorts: ports = {} } = options;
  const binary = await locateTemporal(options.progress);
  const started = await startTemporal({
    processes,
    binary,
    durable: options.durable ?? true,
    ...preferred(ports.temporal),
    ...(ports.temporalUi === undefined ? {} : { preferredUiPort: ports.temporalUi }),
  });
  return { ...started, cli: binary };
}

function preferred(port: number | undefined): { preferredPort?: number } {
  return port === undefined ? {} : { preferredPort: port };
}

async function useGiven(variable: string, value: string, target: [string, number]): Promise<string> {
  await waitUntil({
    what: `the server that ${variable} names, ${target.join(':')}, to accept a connection`,
    timeoutMs: GIVEN_SERVER_TIMEOUT_MS,
    check: () => canConnect(...target),
  });
  return value;
}

async function useGivenMysql(url: string): Promise<string> {
  await useGiven('MYSQL_URL', url, urlTarget(url, 3306));
  await createGivenDatabase(url);
  return url;
}

/** A cluster is given as several URLs; the first stands for all. */
function urlTarget(urls: string, defaultPort: number): [string, number] {
  const url = new URL(urls.split(',')[0] ?? urls);
  return [url.hostname, url.port === '' ? defaultPort : Number(url.port)];
}
