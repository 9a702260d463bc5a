/** What `npm start` prints when everything runs: where each part is, and how to try it. */

import type { Addresses } from './addresses.ts';
import { APP_PORTS } from './app.ts';

/** The ports where `npm start` puts the servers when these are free. */
export const SERVER_PORTS = { redis: 6379, mysql: 3306, temporal: 7233, temporalUi: 8233 };

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
  const rows = [
    ['Demo page', `${addresses.apiUrl}/`],
    ['API', addresses.apiUrl],
    ['Payment provider', `${addresses.providerUrl} (sandbox)`],
    ['Temporal Web UI', addresses.temporalUiUrl ?? `that of ${temporalAddress}`],
    ...(all.temporalCli === undefined
      ? []
      : [['Temporal CLI', `${all.temporalCli} (at ${temporalAddress})`]]),
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

/** One line for each part that does not listen where it is looked for. */
export function takenPortLines({ addresses, parts }: Pick<Announcement, 'addresses' | 'parts'>): string[] {
  const { apiUrl, providerUrl, redisUrl, mysqlUrl, temporalAddress, temporalUiUrl } = addresses;
  const wishes = [
    { part: 'redis', what: 'Redis', preferred: SERVER_PORTS.redis, url: redisUrl },
    { part: 'mysql', what: 'MySQL', preferred: SERVER_PORTS.mysql, url: mysqlUrl },
    {
      part: 'temporal',
      what: 'Temporal',
      preferred: SERVER_PORTS.temporal,
      url: `temporal://${temporalAddress}`,
    },
    {
      part: 'temporal',
      what: 'the Temporal Web UI',
      preferred: SERVER_PORTS.temporalUi,
      url: temporalUiUrl,
    },
    { part: 'provider', what: 'the payment provider', preferred: APP_PORTS.provider, url: providerUrl },
    { part: 'api', what: 'the API', preferred: APP_PORTS.api, url: apiUrl },
  ];
  return wishes.flatMap(({ part, what, preferred, url }) => {
    // A server that the environment names listens where its owner wants it.
    if (url === undefined || !parts.some(({ name }) => name === part)) return [];
    const { port } = new URL(url);
    return port === String(preferred)
      ? []
      : [`Port ${preferred} is taken; ${what} listens on ${port} instead`];
  });
}
