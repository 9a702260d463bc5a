/** What `npm start` prints when everything runs: where each part is, and how to try it. */

import type { Addresses } from './addresses.ts';
import { portsOf, USUAL_PORTS, type Ports } from './start-ports.ts';

export type Announcement = {
  addresses: Addresses;
  adminToken: string;
  /** How long both tokens are good for. */
  tokenLife: string;
  /** Undefined when the environment names a Temporal server. */
  temporalCli: string | undefined;
  logDir: string;
  /** The parts that this start runs, not those that the environment names. */
  parts: readonly { name: string; pid: number }[];
};

export function addressBlock(all: Announcement): string {
  const { addresses, parts } = all;
  const { temporalAddress } = addresses;
  const isOwn = (part: string): boolean => parts.some(({ name }) => name === part);
  const rows = [
    ['Demo page', `${addresses.apiUrl}/`],
    ['API', addresses.apiUrl],
    ['Calls of the API', `${addresses.apiUrl}/docs`],
    ['Payment provider', `${addresses.providerUrl} (sandbox)`],
    ['Temporal Web UI', addresses.temporalUiUrl ?? `that of ${temporalAddress}`],
    ...(all.temporalCli === undefined
      ? []
      : [['Temporal CLI', `${all.temporalCli} (at ${temporalAddress})`]]),
    // Not of servers that the environment names, whose passwords are not to be shown.
    ...(isOwn('mysql') ? [['MySQL', addresses.mysqlUrl]] : []),
    ...(isOwn('redis') ? [['Redis', addresses.redisUrl]] : []),
    ['Logs', all.logDir],
  ];
  const table = rows.map(([label = '', value = '']) => `  ${label.padEnd(18)}${value}`).join('\n');
  return `
  Holdfast is running

${table}

  Token of the demo shopper, good for ${all.tokenLife}:
  ${addresses.token}

  Token of an admin, good for ${all.tokenLife}:
  ${all.adminToken}

  Kill any part while you buy, and it is started again: kill -9 ${parts[0]?.pid ?? '<pid>'}
  ${parts.map(({ name, pid }) => `${name} ${pid}`).join(' · ')}

  Ctrl-C stops everything
`;
}

const NAMES: { [name in keyof Ports]: string } = {
  redis: 'Redis',
  mysql: 'MySQL',
  temporal: 'Temporal',
  temporalUi: 'the Temporal Web UI',
  provider: 'the payment provider',
  api: 'the API',
};

/** One line for each part that does not listen where it is looked for. */
export function otherPortLines(
  { addresses, parts }: Pick<Announcement, 'addresses' | 'parts'>,
  wished: Ports,
): string[] {
  // A server that the environment names listens where its owner wants it.
  const own = portsOf(
    addresses,
    parts.map(({ name }) => name),
  );
  return own.flatMap(({ name, port }) => {
    if (port !== wished[name])
      return [`Port ${wished[name]} is taken; ${NAMES[name]} listens on ${port} instead`];
    return port === USUAL_PORTS[name] ? [] : [`As in the last run ${NAMES[name]} listens on ${port}`];
  });
}
