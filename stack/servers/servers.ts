import { mkdirSync, rmSync } from 'node:fs';
import { locatePieces, type Found, type Piece } from '../install/pieces.ts';
import { stopLeftovers } from '../processes/leftovers.ts';
import { canConnect } from '../processes/ports.ts';
import { createProcesses, type Processes } from '../processes/processes.ts';
import { waitUntil } from '../processes/wait.ts';
import { mysqlPiece, startMysql } from './mysql.ts';
import { redisPiece, startRedis } from './redis.ts';
import { locateTemporal, startTemporal } from './temporal.ts';

/** Somebody else's server is either there or not; a moment of grace for one that is just starting. */
const GIVEN_SERVER_TIMEOUT_MS = 10_000;

type PreferredPorts = { redis?: number; mysql?: number; temporal?: number; temporalUi?: number };

export type Servers = {
  redisUrl: string;
  mysqlUrl: string;
  temporalAddress: string;
  /** Undefined when TEMPORAL_ADDRESS names a server and TEMPORAL_UI_URL does not say where its Web UI is. */
  temporalUiUrl: string | undefined;
};

export type ServerOptions = {
  preferredPorts?: PreferredPorts;
  /** For tests: Temporal without a file, and a database that need not survive a power cut. */
  temporalInMemory?: boolean;
  durable?: boolean;
  fresh: boolean;
  progress: (line: string) => void;
};

/** Starts Redis, MySQL and Temporal, or uses those that the environment names. When one fails, none is left. */
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

/** Makes a data folder ours: ends what a killed start left there, wipes it when asked, and claims it. */
export async function openDataDir(options: {
  dataDir: string;
  fresh: boolean;
  progress: (line: string) => void;
  onCrash: (crash: Error, name: string) => void;
}): Promise<Processes> {
  const { dataDir, progress, onCrash } = options;
  await stopLeftovers({ dataDir, progress });
  if (options.fresh) rmSync(dataDir, { recursive: true, force: true });
  mkdirSync(dataDir, { recursive: true });
  return createProcesses({ dataDir, onCrash });
}

/** Starts the three side by side. On failure the caller stops `processes`, which also ends those still starting. */
export async function launchServers(processes: Processes, options: ServerOptions): Promise<Servers> {
  const [stores, temporal] = await Promise.all([
    launchStores(processes, options),
    launchTemporal(processes, options),
  ]);
  return { ...stores, temporalAddress: temporal.address, temporalUiUrl: temporal.uiUrl };
}

async function launchStores(
  processes: Processes,
  options: ServerOptions,
): Promise<{ redisUrl: string; mysqlUrl: string }> {
  const { progress, preferredPorts: ports = {}, fresh, durable = true } = options;
  const given = { redis: process.env['REDIS_URL'], mysql: process.env['MYSQL_URL'] };
  const wanted: Piece[] = [];
  if (!given.redis) wanted.push(redisPiece);
  if (!given.mysql) wanted.push(mysqlPiece);
  // Both are located before either is started, so that apt-get is asked once for what is missing.
  const located = await locatePieces(wanted, progress);
  const foundOf = (piece: Piece): Found => {
    const found = located[wanted.indexOf(piece)];
    if (found === undefined) throw new Error(`${piece.what} was not asked for`);
    return found;
  };
  const [redisUrl, mysqlUrl] = await Promise.all([
    given.redis
      ? useGiven('REDIS_URL', given.redis, urlTarget(given.redis, 6379))
      : startRedis({ processes, found: foundOf(redisPiece), fresh, durable, ...preferred(ports.redis) }),
    given.mysql
      ? useGiven('MYSQL_URL', given.mysql, urlTarget(given.mysql, 3306))
      : startMysql({ processes, found: foundOf(mysqlPiece), fresh, durable, ...preferred(ports.mysql) }),
  ]);
  return { redisUrl, mysqlUrl };
}

async function launchTemporal(
  processes: Processes,
  options: ServerOptions,
): Promise<{ address: string; uiUrl: string | undefined }> {
  const given = process.env['TEMPORAL_ADDRESS'];
  if (given) {
    await useGiven('TEMPORAL_ADDRESS', given, urlTarget(`temporal://${given}`, 7233));
    return { address: given, uiUrl: process.env['TEMPORAL_UI_URL'] };
  }
  const { preferredPorts: ports = {} } = options;
  return startTemporal({
    processes,
    binary: await locateTemporal(options.progress),
    inMemory: options.temporalInMemory ?? false,
    ...preferred(ports.temporal),
    ...(ports.temporalUi === undefined ? {} : { preferredUiPort: ports.temporalUi }),
  });
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

/** A cluster is given as several URLs; the first stands for all. */
function urlTarget(urls: string, defaultPort: number): [string, number] {
  const url = new URL(urls.split(',')[0] ?? urls);
  return [url.hostname, url.port === '' ? defaultPort : Number(url.port)];
}
