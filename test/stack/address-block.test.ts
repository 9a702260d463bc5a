/** What `npm start` prints when everything runs. */

import { expect, test } from 'vitest';
import { addressBlock, otherPortLines } from '../../stack/address-block.ts';
import { USUAL_PORTS } from '../../stack/start-ports.ts';

const addresses = {
  apiUrl: 'http://127.0.0.1:41234',
  providerUrl: 'http://127.0.0.1:3001',
  temporalUiUrl: 'http://127.0.0.1:41235',
  redisUrl: 'redis://127.0.0.1:41236',
  mysqlUrl: 'mysql://holdfast:secret@127.0.0.1:3306/holdfast',
  temporalAddress: '127.0.0.1:7233',
  saleId: 'demo',
  token: 'a-shopper-token',
};
const parts = ['mysql', 'temporal', 'provider', 'api', 'worker'].map((name, i) => ({ name, pid: 100 + i }));

test('a port that was taken is said in one line, unless the environment names the server', () => {
  expect(otherPortLines({ addresses, parts }, USUAL_PORTS)).toEqual([
    'Port 8233 is taken; the Temporal Web UI listens on 41235 instead',
    'Port 3000 is taken; the API listens on 41234 instead',
  ]);
});

test('a port that was kept from the last run is said in one line', () => {
  const wished = { ...USUAL_PORTS, temporalUi: 41235, api: 41230 };
  expect(otherPortLines({ addresses, parts }, wished)).toEqual([
    'As in the last run the Temporal Web UI listens on 41235',
    'Port 41230 is taken; the API listens on 41234 instead',
  ]);
});

test('the block names both tokens, the page of all calls, the Temporal CLI and the pid of every part', () => {
  const block = addressBlock({
    addresses,
    adminToken: 'an-admin-token',
    tokenLife: '12 hours',
    temporalCli: '/opt/temporal',
    logDir: '/data/logs',
    parts,
  });
  const page = `${addresses.apiUrl}/docs`;
  for (const named of [
    'a-shopper-token',
    'an-admin-token',
    page,
    '/opt/temporal',
    '/data/logs',
    'worker 104',
  ])
    expect(block).toContain(named);
  // Redis is one that the environment names.
  expect([block.includes(addresses.mysqlUrl), block.includes(addresses.redisUrl)]).toEqual([true, false]);
});
