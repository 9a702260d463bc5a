/**
 * `npm start`: runs all of Holdfast on this machine until Ctrl-C, and starts again each part that dies.
 * `npm run dev` is the same with `--watch`.
 */

import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { signToken } from '../src/api/http/auth.ts';
import { addressBlock, otherPortLines } from './address-block.ts';
import { devDataDir, removeAddresses, writeAddresses, type Addresses } from './addresses.ts';
import { demoSecrets, findAppUrls, startApp, startProvider } from './app.ts';
import { prepareDemo } from './demo-sale.ts';
import { RESTARTED_PARTS, restartOnChange } from './dev.ts';
import type { Processes } from './processes/processes.ts';
import { restartOnCrash } from './processes/supervisor.ts';
import { restoreDump } from './restore.ts';
import { launchServers, openDataDir } from './servers/servers.ts';
import { rememberPorts, wishPorts } from './start-ports.ts';

const FLAGS =
  '--fresh (begin with empty stores), --restore <file> (begin with a dump of MySQL) and --watch (restart on a change)';

type Flags = {
  /** Begins with empty stores. */
  fresh: boolean;
  /** Restarts the API and the worker when the sources change. */
  watch: boolean;
  /** A dump that is loaded into the empty MySQL. */
  restore: string | undefined;
};

/** How a run ends: an operator asked for it, or something broke. */
type End = { kind: 'asked' } | { kind: 'broken'; why: unknown };

const say = (line: string): void => console.log(`· ${line}`);

// Not just the exit code: a download or a build that was cut short must not keep this process alive.
process.exit(await main(process.argv.slice(2)));

async function main(args: string[]): Promise<number> {
  const flags = readFlags(args);
  if (flags === undefined) return 1;
  const outcome = new EventEmitter<{ end: [End] }>();
  const ended = once(outcome, 'end');
  const asked = (): boolean => outcome.emit('end', { kind: 'asked' });
  const broken = (why: unknown): boolean => outcome.emit('end', { kind: 'broken', why });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, asked);
  const processes = await openDev(flags, broken);
  if (processes === undefined) return 1;
  // Not awaited: a broken part or a Ctrl-C ends the start as well as the run.
  startAll(processes, flags).catch(broken);
  const [end] = await ended;
  return stopAll(processes, end);
}

function readFlags(args: string[]): Flags | undefined {
  const flag = { type: 'boolean', default: false } as const;
  try {
    const options = { fresh: flag, watch: flag, restore: { type: 'string' } } as const;
    const { fresh, watch, restore } = parseArgs({ args, options }).values;
    return { fresh, watch, restore };
  } catch (error) {
    console.error(`npm start knows ${FLAGS}: ${describe(error)}`);
    return undefined;
  }
}

async function openDev(flags: Flags, broken: (why: Error) => void): Promise<Processes | undefined> {
  const onStaysDown = (reason: Error, name: string): void => {
    // The next change may be the one that mends it.
    if (flags.watch && RESTARTED_PARTS.includes(name)) say(`${describe(reason)}\n  It waits for a change`);
    else broken(reason);
  };
  const onCrash = restartOnCrash({ say, onStaysDown });
  try {
    return await openDataDir({ dataDir: devDataDir, fresh: flags.fresh, progress: say, onCrash });
  } catch (error) {
    console.error(describe(error));
    return undefined;
  }
}

async function startAll(processes: Processes, flags: Flags): Promise<void> {
  say('Starting Redis, MySQL and Temporal');
  const wished = await wishPorts(devDataDir);
  const { temporalCli, ...servers } = await launchServers(processes, {
    preferredPorts: wished,
    fresh: flags.fresh,
    progress: say,
  });
  const urls = await findAppUrls(wished);
  say('Starting the payment provider and preparing the demo sale');
  const { redisUrl, mysqlUrl } = servers;
  if (flags.restore !== undefined) await restoreDump({ mysqlUrl, file: flags.restore, progress: say });
  const [saleId] = await Promise.all([
    prepareDemo({ redisUrl, mysqlUrl, progress: say }),
    startProvider(processes, urls),
  ]);
  say('Starting the API and a worker');
  await startApp(processes, { servers, urls, demoSaleId: saleId });
  const token = await signToken(demoSecrets.jwt, 'demo-shopper', '12h');
  const adminToken = await signToken(demoSecrets.jwt, 'demo-admin', '12h', { roles: ['admin'] });
  const addresses: Addresses = { ...servers, ...urls, saleId, token };
  writeAddresses(addresses);
  const parts = processes.names().map((name) => ({ name, pid: processes.pid(name) }));
  rememberPorts(devDataDir, addresses, processes.names());
  for (const line of otherPortLines({ addresses, parts }, wished)) say(line);
  const logDir = join(devDataDir, 'logs');
  console.log(addressBlock({ addresses, adminToken, tokenLife: '12 hours', temporalCli, logDir, parts }));
  if (!flags.watch) return;
  restartOnChange(processes, say);
  say('Watching the sources: a change restarts the API and the worker');
}

async function stopAll(processes: Processes, end: End): Promise<number> {
  if (end.kind === 'broken') console.error(`\n${describe(end.why)}\n`);
  say('Stopping everything');
  removeAddresses();
  try {
    await processes.stopAll();
  } catch (error) {
    console.error(describe(error));
    return 1;
  }
  say('Stopped');
  return end.kind === 'asked' ? 0 : 1;
}

/** The message with the causes that led to it; a stack trace of this file would add nothing. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${describe(error.cause)}`;
}
