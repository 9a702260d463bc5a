/** No password reaches the log, wherever an error carries it. */

import { expect, test } from 'vitest';
import { redactCredentials } from '../src/log.ts';
import { openTestLog } from './api/test-log.ts';

const SECRET = 's3cr3t-of-redis';
const URL_WITH_SECRET = `redis://default:${SECRET}@redis.internal:6379/0`;

test.each<[string, () => Error]>([
  ['its message', () => new Error(`Redis is not reachable at ${URL_WITH_SECRET}`)],
  ['its cause', () => new Error('could not run', { cause: new Error(`connect ${URL_WITH_SECRET}`) })],
  ['a member', () => Object.assign(new Error('could not run'), { address: URL_WITH_SECRET })],
  ['a list', () => Object.assign(new Error('could not run'), { nodes: [{ url: URL_WITH_SECRET }] })],
  ['an error inside', () => new AggregateError([new Error(URL_WITH_SECRET)], 'all nodes failed')],
  [
    "ioredis' command",
    () => Object.assign(new Error('WRONGPASS'), { command: { name: 'auth', args: ['default', SECRET] } }),
  ],
  [
    'the command of an error inside',
    () =>
      new AggregateError([
        Object.assign(new Error('WRONGPASS'), { command: { name: 'auth', args: [SECRET] } }),
      ]),
  ],
])('a password in %s of an error is not in the line', (_, makeError) => {
  const { log, lines } = openTestLog();

  log.fatal({ err: makeError() }, 'could not run');

  expect(lines()).toHaveLength(1);
  expect(JSON.stringify(lines())).not.toContain(SECRET);
});

test('what is needed to find the fault stays', () => {
  const { log, lines } = openTestLog();
  const error = new Error(`not reachable at ${URL_WITH_SECRET}`, { cause: new Error('ECONNREFUSED') });

  log.fatal(
    { err: Object.assign(error, { code: 'EX', command: { name: 'auth', args: [SECRET] } }) },
    `at ${URL_WITH_SECRET}`,
  );

  expect(lines()).toMatchObject([
    {
      level: 60,
      msg: 'at redis://default:***@redis.internal:6379/0',
      err: {
        type: 'Error',
        message: 'not reachable at redis://default:***@redis.internal:6379/0: ECONNREFUSED',
        code: 'EX',
        command: 'auth',
        stack: expect.stringContaining('log.test.ts'),
      },
    },
  ]);
});

test.each([
  ['mysql://user:p%40ss@host/db', 'mysql://user:***@host/db'],
  ['redis://:pass@host', 'redis://:***@host'],
  ['redis://:p@ss@host', 'redis://:***@host'],
  ['redis://a:1@h1:7000, redis://b:2@h2:7001', 'redis://a:***@h1:7000, redis://b:***@h2:7001'],
  ['redis://a:1@h1:7000,redis://b:2@h2:7001', 'redis://a:***@h1:7000,redis://b:***@h2:7001'],
  ['http://127.0.0.1:3000/v1/orders?mail=a@b', 'http://127.0.0.1:3000/v1/orders?mail=a@b'],
  ['https://host/path', 'https://host/path'],
])('%s is shown as %s', (text, shown) => {
  expect(redactCredentials(text)).toBe(shown);
});
