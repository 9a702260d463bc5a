/** The ports of `npm start` stay from run to run. */

import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { findAppUrls } from '../../stack/app.ts';
import { findFreePort } from '../../stack/processes/ports.ts';
import { portsOf, rememberPorts, USUAL_PORTS, wishPorts } from '../../stack/start-ports.ts';
import { withDataDir } from './data-dir.ts';

const PARTS = ['redis', 'mysql', 'temporal', 'provider', 'api', 'worker'];

/** Of a run whose parts all listen elsewhere than usual. */
async function buildAddresses() {
  const [redis, mysql, temporal, ui, provider, api] = await Promise.all(PARTS.map(() => findFreePort()));
  return {
    redisUrl: `redis://127.0.0.1:${redis}`,
    mysqlUrl: `mysql://holdfast:secret@127.0.0.1:${mysql}/holdfast`,
    temporalAddress: `127.0.0.1:${temporal}`,
    temporalUiUrl: `http://127.0.0.1:${ui}`,
    providerUrl: `http://127.0.0.1:${provider}`,
    apiUrl: `http://127.0.0.1:${api}`,
    saleId: 'demo',
    token: 'a-shopper-token',
  };
}

const portOf = (url: string): number => Number(new URL(url).port);

test('the first run wishes for the usual ports', () =>
  withDataDir(async (dataDir) => {
    expect(await wishPorts(dataDir)).toEqual(USUAL_PORTS);
  }));

test('the next run listens where the last one did', () =>
  withDataDir(async (dataDir) => {
    const last = await buildAddresses();
    rememberPorts(dataDir, last, PARTS);

    const wished = await wishPorts(dataDir);

    expect(wished).toEqual(Object.fromEntries(portsOf(last, PARTS).map(({ name, port }) => [name, port])));
    expect(await findAppUrls(wished)).toMatchObject({ apiUrl: last.apiUrl, providerUrl: last.providerUrl });
  }));

test('where another process has the port of the last run, the usual one is wished for', () =>
  withDataDir(async (dataDir) => {
    const last = await buildAddresses();
    rememberPorts(dataDir, last, PARTS);
    const another = createServer().listen(portOf(last.apiUrl), '127.0.0.1');
    await once(another, 'listening');
    try {
      const { api, provider } = await wishPorts(dataDir);

      expect(api).toBe(USUAL_PORTS.api);
      expect(provider).toBe(portOf(last.providerUrl));
    } finally {
      another.close();
    }
  }));

test('a server that the environment names is not remembered, and what an earlier run had is not forgotten', () =>
  withDataDir(async (dataDir) => {
    const [first, second] = [await buildAddresses(), await buildAddresses()];
    rememberPorts(dataDir, first, PARTS);
    const withoutRedis = PARTS.filter((part) => part !== 'redis');
    rememberPorts(dataDir, second, withoutRedis);

    const { redis, mysql } = await wishPorts(dataDir);

    expect({ redis, mysql }).toEqual({ redis: portOf(first.redisUrl), mysql: portOf(second.mysqlUrl) });
  }));

test.each(['', '{"api": 30', '{"api": "x"}', '{"api": 99999999}'])(
  'a file that says %j is as good as none',
  (text) =>
    withDataDir(async (dataDir) => {
      await writeFile(join(dataDir, 'ports.json'), text);
      expect(await wishPorts(dataDir)).toEqual(USUAL_PORTS);
    }),
);
