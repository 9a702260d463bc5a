/**
 * Where the parts of `npm start` listen: where they did in its last run, so that pages which are open stay
 * good, and at first on the usual ports.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import type { Addresses } from './addresses.ts';
import { APP_PORTS } from './app.ts';
import { isPortFree } from './processes/ports.ts';

export const USUAL_PORTS = { redis: 6379, mysql: 3306, temporal: 7233, temporalUi: 8233, ...APP_PORTS };

type PortName = keyof typeof USUAL_PORTS;
export type Ports = Record<PortName, number>;

const port = z.int().positive().max(65_535).optional();
const lastPorts = z.object({
  redis: port,
  mysql: port,
  temporal: port,
  temporalUi: port,
  provider: port,
  api: port,
});

const PORT_NAMES = lastPorts.keyof().options;

const fileIn = (dataDir: string): string => join(dataDir, 'ports.json');

/** For each part its port in the last run where that is free, and otherwise the usual one, free or not. */
export async function wishPorts(dataDir: string): Promise<Ports> {
  const last = readLast(dataDir);
  const wishes = PORT_NAMES.map(async (name): Promise<[PortName, number]> => {
    const known = last[name];
    return [name, known !== undefined && (await isPortFree(known)) ? known : USUAL_PORTS[name]];
  });
  return { ...USUAL_PORTS, ...Object.fromEntries(await Promise.all(wishes)) };
}

/** A server that the environment names is no part of the run; what an earlier run had instead stays known. */
export function rememberPorts(dataDir: string, addresses: Addresses, ownParts: readonly string[]): void {
  const own = portsOf(addresses, ownParts).map(({ name, port: at }) => [name, at]);
  writeFileSync(fileIn(dataDir), JSON.stringify({ ...readLast(dataDir), ...Object.fromEntries(own) }));
}

/** Where the run's own parts listen. */
export function portsOf(
  { redisUrl, mysqlUrl, temporalAddress, temporalUiUrl, providerUrl, apiUrl }: Addresses,
  ownParts: readonly string[],
): { name: PortName; port: number }[] {
  const urls: [PortName, part: string, url: string | undefined][] = [
    ['redis', 'redis', redisUrl],
    ['mysql', 'mysql', mysqlUrl],
    ['temporal', 'temporal', `temporal://${temporalAddress}`],
    ['temporalUi', 'temporal', temporalUiUrl],
    ['provider', 'provider', providerUrl],
    ['api', 'api', apiUrl],
  ];
  return urls.flatMap(([name, part, url]) =>
    url === undefined || !ownParts.includes(part) ? [] : [{ name, port: Number(new URL(url).port) }],
  );
}

/** A file that cannot be read is as good as none: the ports are a convenience. */
function readLast(dataDir: string): z.infer<typeof lastPorts> {
  try {
    return lastPorts.parse(JSON.parse(readFileSync(fileIn(dataDir), 'utf8')));
  } catch {
    return {};
  }
}
