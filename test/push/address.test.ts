/** Pushes go to public addresses alone, whatever leads to others: literals, names, rebinding, redirects. */

import { spawn, spawnSync } from 'node:child_process';
import type { LookupAddress } from 'node:dns';
import { once } from 'node:events';
import type { LookupFunction } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { isPublicAddress, lookUpPublic, parseEndpointUrl } from '../../src/push/address.ts';
import { createSender, type Answer, type SenderOptions } from '../../src/push/deliverer.ts';
import { openReceiver, type Receiver } from '../support/receiver.ts';

const PRIVATE: [string, string][] = [
  ['this network', '0.0.0.0'],
  ['loopback', '127.0.0.1'],
  ['loopback, another of it', '127.255.255.254'],
  ['private A', '10.0.0.1'],
  ['private B', '172.16.0.1'],
  ['private B, its end', '172.31.255.254'],
  ['private C', '192.168.1.1'],
  ['link-local', '169.254.0.1'],
  ['the metadata service of clouds', '169.254.169.254'],
  ['shared by a carrier', '100.64.0.1'],
  ['multicast', '224.0.0.1'],
  ['broadcast', '255.255.255.255'],
  ['reserved', '240.0.0.1'],
  ['protocol assignments', '192.0.0.1'],
  ['benchmarks', '198.18.0.1'],
  ['documentation', '203.0.113.1'],
  ['6to4 relays', '192.88.99.1'],
  ['IPv6 unspecified', '::'],
  ['IPv6 loopback', '::1'],
  ['IPv6 link-local', 'fe80::1'],
  ['IPv6 unique local', 'fd00::1'],
  ['IPv6 site-local', 'fec0::1'],
  ['IPv6 multicast', 'ff02::1'],
  ['IPv4-mapped', '::ffff:127.0.0.1'],
  ['IPv4-mapped, of a public address', '::ffff:93.184.216.34'],
  ['IPv4-compatible', '::127.0.0.1'],
  ['IPv4-translated', '::ffff:0:127.0.0.1'],
  ['NAT64', '64:ff9b::7f00:1'],
  ['local NAT64', '64:ff9b:1::7f00:1'],
  ['6to4', '2002:7f00:1::1'],
  ['Teredo', '2001::1'],
  ['IPv6 documentation', '2001:db8::1'],
  ['IPv6 discard', '100::1'],
  ['no address', 'localhost'],
];
const PUBLIC = ['93.184.216.34', '1.1.1.1', '172.15.0.1', '172.32.0.1', '2606:4700:4700::1111'];

const STRICT = { allowPrivate: false, requireHttps: false };

test.each(PRIVATE)('%s (%s) is not public', (_, address) => {
  expect(isPublicAddress(address)).toBe(false);
});

test.each(PUBLIC)('%s is public', (address) => {
  expect(isPublicAddress(address)).toBe(true);
});

describe('an address that a shop gives', () => {
  test.each([
    'https://office.shop.example/hook',
    'https://93.184.216.34/',
    'https://office.shop.example:8443/hook?shop=7',
    'https://[2606:4700:4700::1111]/',
  ])('%s is taken', (url) => {
    expect(parseEndpointUrl(url, { allowPrivate: false, requireHttps: true })).toBeInstanceOf(URL);
  });

  test.each([
    '',
    'office',
    'ftp://office.shop.example/',
    'file:///etc/passwd',
    'javascript:alert(1)',
    'https://',
    'https://user@office.shop.example/',
    'https://:secret@office.shop.example/',
    'https://office.shop.example/#part',
    `https://office.shop.example/${'x'.repeat(2_048)}`,
    'http://localhost/',
    'http://api.localhost./',
    'http://printer.local/',
    'http://metadata.google.internal/',
    'http://127.0.0.1/',
    'http://127.1/',
    'http://2130706433/',
    'http://0x7f.1/',
    'http://0177.0.0.1/',
    'http://127.0.0.1./',
    'http://[::1]/',
    'http://[::ffff:127.0.0.1]/',
    'http://[fd00::1]/',
    'http://169.254.169.254/latest/meta-data/',
  ])('%s is refused', (url) => {
    expect(parseEndpointUrl(url, STRICT)).toEqual(expect.any(String));
  });

  test('is https where that is required, also inside a private network', () => {
    const rules = { allowPrivate: true, requireHttps: true };
    expect(parseEndpointUrl('http://127.0.0.1/', rules)).toBe('must begin with https');
    expect(parseEndpointUrl('https://127.0.0.1/', rules)).toBeInstanceOf(URL);
  });
});

/** Long enough for a request to arrive on a busy machine. */
const ATTEMPT_MS = 3_000;

/** Keeps a request waiting until `/answer` is asked for. That is answered when the first has got its 204. */
const HOLDING_SERVER = `let waiting;
require('node:http').createServer((request, response) => {
  if (request.url === '/answer') return waiting.writeHead(204).end(() => response.end());
  waiting = response;
  process.stdout.write('got\\n');
}).listen(0, '127.0.0.1', function () { process.stdout.write(this.address().port + '\\n'); });`;

test('an attempt that was answered while its process stood still is answered', async () => {
  const server = spawn(process.execPath, ['-e', HOLDING_SERVER], { stdio: ['ignore', 'pipe', 'inherit'] });
  const sender = createSender({ allowPrivate: true, timeoutMs: ATTEMPT_MS });
  try {
    const [port] = await once(server.stdout, 'data');
    const url = `http://127.0.0.1:${String(port).trim()}/`;
    const answer = sender.post(url, {}, '{}');
    await once(server.stdout, 'data');
    // This process stands still while another has it answered, and for longer than an attempt may take.
    const script = `fetch('${url}answer').then(() => setTimeout(() => {}, ${ATTEMPT_MS}))`;
    expect(spawnSync(process.execPath, ['-e', script], { stdio: 'inherit' }).status).toBe(0);
    expect(await answer).toMatchObject({ kind: 'answered', status: 204 });
  } finally {
    sender.close();
    server.kill();
  }
});

describe('an attempt', () => {
  let receiver: Receiver;
  beforeEach(async () => {
    receiver = await openReceiver();
  });
  afterEach(() => receiver.close());

  async function post(url: string, options: SenderOptions): Promise<Answer> {
    const sender = createSender(options);
    try {
      return await sender.post(url, { 'webhook-id': 'evt' }, '{"id":"evt","type":"t","data":{}}');
    } finally {
      sender.close();
    }
  }

  const forbidden = {
    kind: 'failed',
    error: 'the address is inside a private network, which is not allowed',
  };
  const at = (host: string): string => Object.assign(new URL(receiver.url), { hostname: host }).href;
  /** A name that has these addresses, one list for each time that it is asked for. */
  function named(...answers: LookupAddress[][]): LookupFunction {
    return (...call) => lookUpPublic(...call, (_, __, done) => done(null, answers.shift() ?? []));
  }
  const LOOPBACK: LookupAddress = { address: '127.0.0.1', family: 4 };
  const UNREACHED: LookupAddress = { address: '2606:4700:4700::1111', family: 6 };

  test.each(['127.0.0.1', '[::1]', '[::ffff:127.0.0.1]'])('to %s is not made', async (host) => {
    expect(await post(at(host), { allowPrivate: false })).toEqual(forbidden);
    expect(receiver.received).toEqual([]);
  });

  test('to a name of this machine is not made', async () => {
    expect(await post(at('localhost'), { allowPrivate: false })).toEqual(forbidden);
    expect(receiver.received).toEqual([]);
  });

  test('to a name that has a private address is not made', async () => {
    const options = { allowPrivate: false, lookup: named([LOOPBACK]) };
    expect(await post(at('office.shop.example'), options)).toEqual(forbidden);
    expect(receiver.received).toEqual([]);
  });

  test('to a name that also has a private address does not go there', async () => {
    const options = { allowPrivate: false, timeoutMs: 500, lookup: named([LOOPBACK, UNREACHED]) };
    expect((await post(at('office.shop.example'), options)).kind).toBe('failed');
    expect(receiver.received).toEqual([]);
  });

  test('resolves the name once, and connects to what was checked', async () => {
    // A name that turns to a private address once it was checked.
    const options = { allowPrivate: false, timeoutMs: 500, lookup: named([UNREACHED], [LOOPBACK]) };
    expect((await post(at('office.shop.example'), options)).kind).toBe('failed');
    expect(receiver.received).toEqual([]);
  });

  test('to an https address is made over TLS alone', async () => {
    const url = Object.assign(new URL(receiver.url), { protocol: 'https:' }).href;
    expect(await post(url, { allowPrivate: true })).toEqual({
      kind: 'failed',
      error: 'the host does not speak TLS there',
    });
    expect(await post(url, { allowPrivate: false })).toEqual(forbidden);
    expect(receiver.received).toEqual([]);
  });

  test('goes to this machine where that is allowed', async () => {
    expect(await post(receiver.url, { allowPrivate: true })).toEqual({
      kind: 'answered',
      body: '',
      status: 204,
      retryAfterMs: 0,
    });
    expect(receiver.received).toHaveLength(1);
  });

  test('follows no redirect', async () => {
    const target = await openReceiver();
    receiver.answerWith((_, response) => {
      response.writeHead(307, { location: target.url }).end();
    });
    expect(await post(receiver.url, { allowPrivate: true })).toMatchObject({ status: 307 });
    expect(target.received).toEqual([]);
    await target.close();
  });

  test('without an answer ends in time', async () => {
    receiver.answerWith(() => undefined);
    expect(await post(receiver.url, { allowPrivate: true, timeoutMs: 100 })).toEqual({
      kind: 'failed',
      error: 'no answer within 0.1 s',
    });
  });

  test('whose answer never ends counts by its status', async () => {
    receiver.answerWith((_, response) => {
      response.writeHead(200).write('…');
    });
    expect(await post(receiver.url, { allowPrivate: true, timeoutMs: 3_000 })).toMatchObject({ status: 200 });
  });

  test.each([
    ['switches to another protocol', '101 Switching Protocols\r\nUpgrade: other\r\nConnection: Upgrade'],
    ['is not followed by another', '100 Continue'],
  ])('whose answer %s ends as a failure', async (_, answer) => {
    receiver.answerWith((__, response) => {
      response.socket?.write(`HTTP/1.1 ${answer}\r\n\r\n`);
    });
    expect(await post(receiver.url, { allowPrivate: true, timeoutMs: 200 })).toMatchObject({
      kind: 'failed',
    });
  });

  test('whose answer is endless is cut off', async () => {
    receiver.answerWith((_, response) => {
      response.writeHead(200);
      const more = (): void => {
        if (!response.destroyed) response.write('x'.repeat(64 * 1_024), more);
      };
      more();
    });
    expect(await post(receiver.url, { allowPrivate: true })).toMatchObject({ status: 200 });
  });

  test('reveals nothing of the network when it fails', async () => {
    const url = receiver.url;
    await receiver.close();
    expect(await post(url, { allowPrivate: true })).toEqual({
      kind: 'failed',
      error: 'the connection was refused',
    });
    receiver = await openReceiver();
  });
});
