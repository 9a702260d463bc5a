import { EventEmitter, once } from 'node:events';
import { signToken } from '../src/api/auth.ts';
import { devDataDir, removeAddresses, writeAddresses, type Addresses } from './addresses.ts';
import { demoSecrets, findAppUrls, startApp, startProvider } from './app.ts';
import { prepareDemo } from './demo-sale.ts';
import type { Processes } from './processes/processes.ts';
import { launchServers, openDataDir } from './servers/servers.ts';

const PREFERRED_PORTS = { redis: 6379, mysql: 3306, temporal: 7233, temporalUi: 8233 };

/** How a run ends: somebody asked for it, or something broke. */
type End = { kind: 'asked' } | { kind: 'broken'; why: unknown };

const say = (line: string): void => console.log(`· ${line}`);

// Not just the exit code: a download or a build that was cut short must not keep us alive.
process.exit(await main(process.argv.slice(2)));

async function main(args: string[]): Promise<number> {
  const unknown = args.find((arg) => arg !== '--fresh');
  if (unknown !== undefined) {
    console.error(`npm start knows one flag, --fresh (begin with empty stores), and not ${unknown}`);
    return 1;
  }
  const fresh = args.includes('--fresh');
  const outcome = new EventEmitter<{ end: [End] }>();
  const ended = once(outcome, 'end');
  const asked = (): boolean => outcome.emit('end', { kind: 'asked' });
  const broken = (why: unknown): boolean => outcome.emit('end', { kind: 'broken', why });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, asked);
  const processes = await openDev(fresh, broken);
  if (processes === undefined) return 1;
  // Not awaited: a crash or a Ctrl-C ends the start as well as the run.
  startAll(processes, fresh).catch(broken);
  const [end] = await ended;
  return stopAll(processes, end);
}

async function openDev(fresh: boolean, onCrash: (crash: Error) => void): Promise<Processes | undefined> {
  try {
    return await openDataDir({ dataDir: devDataDir, fresh, progress: say, onCrash });
  } catch (error) {
    console.error(describe(error));
    return undefined;
  }
}

async function startAll(processes: Processes, fresh: boolean): Promise<void> {
  say('Starting Redis, MySQL and Temporal');
  const servers = await launchServers(processes, {
    preferredPorts: PREFERRED_PORTS,
    fresh,
    progress: say,
  });
  const urls = await findAppUrls();
  say('Starting the payment provider and preparing the demo sale');
  const { redisUrl, mysqlUrl } = servers;
  const [saleId] = await Promise.all([
    prepareDemo({ redisUrl, mysqlUrl, progress: say }),
    startProvider(processes, urls),
  ]);
  say('Starting the API and a worker');
  await startApp(processes, { servers, urls, demoSaleId: saleId });
  const token = await signToken(demoSecrets.jwt, 'demo-shopper', '12h');
  const addresses: Addresses = { ...servers, ...urls, saleId, token };
  writeAddresses(addresses);
  console.log(addressBlock(addresses));
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

function addressBlock(addresses: Addresses): string {
  return `
  Holdfast is running

  Demo page         ${addresses.apiUrl}/
  API               ${addresses.apiUrl}
  Payment provider  ${addresses.providerUrl} (sandbox)
  Temporal Web UI   ${addresses.temporalUiUrl ?? `that of ${addresses.temporalAddress}`}
  Logs              ${devDataDir}/logs

  A token of the demo shopper, good for 12 hours:
  ${addresses.token}

  Ctrl-C stops everything
`;
}

/** The message with the causes that led to it; a stack trace of this file would help nobody. */
function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${describe(error.cause)}`;
}
