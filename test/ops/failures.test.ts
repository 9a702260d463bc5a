/** Whatever fails in a tool is a sentence with an exit code, and never a stack. */

import { execFile } from 'node:child_process';
import { expect, test } from 'vitest';
import { busyNote, describeFailure } from '../../src/tool.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';

const grpc = Object.assign(new Error('14 UNAVAILABLE: no connection'), {
  code: 14,
  details: 'no connection established',
});

test.each<[string, unknown, RegExp]>([
  [
    'a command of Redis without an answer',
    new Error('Command timed out'),
    /^Redis did not answer: Command timed out\./,
  ],
  [
    'a connection to Redis that is lost',
    new Error('Redis is not reachable at h:1', { cause: new Error('connect ECONNREFUSED') }),
    /^Redis is not reachable at h:1: connect ECONNREFUSED\./,
  ],
  [
    'MySQL without an answer',
    Object.assign(new Error('MySQL did not answer within 20000 ms'), { code: 'STORE_UNAVAILABLE' }),
    /^MySQL did not answer within 20000 ms\./,
  ],
  ['Temporal that is away', grpc, /^Temporal did not do it: no connection established\./],
  ['what nobody foresaw', new TypeError('x is not a function'), /^TypeError: x is not a function \(at .+\)$/],
  ['what is no error', 'gone', /^gone$/],
])('%s is a sentence', (_, error, sentence) => {
  const said = describeFailure(error);
  expect(said).toMatch(sentence);
  expect(said).not.toContain('\n');
});

test('a busy machine is said to be busy, and an idle one is not', () => {
  expect(busyNote({ text: 'a load of 18.0 on 2 processors', isBusy: true })).toBe(
    ' This machine is busy (a load of 18.0 on 2 processors): ask again later, or from another one.',
  );
  expect(busyNote({ text: 'a load of 0.4 on 2 processors', isBusy: false })).toBe('');
});

test.each([
  ['ops/main.js', ['order', 'show', 'demo-0-1-01KAJ5T0ZV6Y3QH8M2C4D7E9FG'], 1],
  ['ops/main.js', ['erase', 'ada', '--reason', 'asked for it'], 1],
  ['audit/main.js', [], 2],
])('the process %s ends with a sentence where its servers are away', async (file, args, exitCode) => {
  const env = {
    PATH: process.env['PATH'],
    NODE_ENV: 'test',
    REDIS_URL: 'redis://ada:secret@127.0.0.1:1',
    MYSQL_URL: 'mysql://ada:secret@127.0.0.1:1/none',
    TEMPORAL_ADDRESS: '127.0.0.1:1',
    PAYMENT_PROVIDER_URL: 'http://127.0.0.1:1',
    HOLDFAST_URL: 'http://127.0.0.1:1',
    HOLDFAST_TOKEN: 'a secret token',
    PAYMENT_PROVIDER_API_KEY: 'sk',
    WEBHOOK_SECRETS: 'whsec_aG9sZGZhc3QtaHR0cC1hcHAtc2VjcmV0LTE=',
    ORDER_SIGNING_SECRETS: 'a secret of thirty-two characters',
  };
  const ended = await new Promise<{ code: unknown; said: string }>((resolve) => {
    execFile(process.execPath, [`dist/src/${file}`, ...args], { cwd: repoDir, env }, (error, out, err) =>
      resolve({ code: error?.code ?? 0, said: `${out}${err}` }),
    );
  });
  const lines = ended.said.trim().split('\n');
  expect([ended.code, lines]).toEqual([
    exitCode,
    [expect.stringMatching(/not reachable|cannot be reached|does not answer/)],
  ]);
  expect(ended.said).not.toContain('secret');
});
