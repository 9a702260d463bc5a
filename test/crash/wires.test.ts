/** What the cues hear of each wire. They listen to the whole process, so this file has one of its own. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Redis } from 'ioredis';
import { createPool } from 'mysql2/promise';
import { beforeEach, expect, inject, onTestFinished, test } from 'vitest';
import { listen, type Call } from '../compositions/wires.ts';
import { ownRedisUrl } from '../support/own-redis.ts';

/** A process that dies at this text sends it no more. */
const DEADLY = 'deadly';
const DEAD = 'it is dead';

let heard: unknown[];
beforeEach(() => {
  heard = [];
});

listen({
  sending(call) {
    if (JSON.stringify(call).includes(DEADLY)) throw new Error(DEAD);
    heard.push(`sending ${show(call)}`);
  },
  answered: (call) => heard.push(`answered ${show(call)}`),
});

function show(call: Call): string {
  if (call.wire === 'redis') return `${call.command} ${call.text}`;
  return call.wire === 'http' ? call.request : `${call.statement} in ${call.transaction.join('; ')}`;
}

async function openRedis() {
  const scripts = { echo: { lua: 'return ARGV[1]', numberOfKeys: 0 } };
  const redis = new Redis(await ownRedisUrl(), { scripts });
  onTestFinished(() => redis.disconnect());
  await once(redis, 'ready');
  await redis.del('key');
  heard = [];
  const script: unknown = Reflect.get(redis, 'echo');
  assert(typeof script === 'function');
  const echo = async (text: string): Promise<unknown> => Reflect.apply(script, redis, [text]);
  return { redis, echo };
}

test('a script of Redis is heard by its name, before it is sent and before its caller goes on', async () => {
  const { redis, echo } = await openRedis();

  heard.push(await echo('one'));
  await redis.script('FLUSH');
  heard.push(await echo('two'));

  expect(heard).toEqual([
    'sending echo ["0","one"]',
    'answered echo ["0","one"] "one"',
    'one',
    'sending script ["FLUSH"]',
    'answered script ["FLUSH"] "OK"',
    'sending echo ["0","two"]',
    // Redis had forgotten it, so it is sent once more.
    'sending echo ["0","two"]',
    'answered echo ["0","two"] "two"',
    'answered echo ["0","two"] "two"',
    'two',
  ]);
});

test('of a pipeline each command is heard before any is sent, and each answer before the caller goes on', async () => {
  const { redis } = await openRedis();

  await redis.pipeline().set('key', 'value').get('key').hget('key', 'field').exec();
  heard.push('went on');

  expect(heard).toEqual([
    'sending set ["key","value"]',
    'sending get ["key"]',
    'sending hget ["key","field"]',
    'answered set ["key","value"] "OK"',
    'answered get ["key"] "value"',
    'went on',
  ]);
});

test('a command of Redis at which the process dies is not sent', async () => {
  const { redis } = await openRedis();

  await expect(async () => redis.set('key', DEADLY)).rejects.toThrow(DEAD);
  await expect(async () => redis.pipeline().set('key', 'first').set('key', DEADLY).exec()).rejects.toThrow(
    DEAD,
  );

  const other = await openRedis();
  expect(await other.redis.get('key')).toBeNull();
});

test('a statement of MySQL is heard with its values, and a COMMIT with the statements of its transaction', async () => {
  const pool = createPool(inject('mysqlUrl'));
  onTestFinished(() => pool.end());
  const connection = await pool.getConnection();

  await connection.beginTransaction();
  await connection.query('SELECT ?', ['undone']);
  await connection.rollback();
  await connection.beginTransaction();
  await connection.query('SELECT ?,\n  ?', ['a', 1]);
  await connection.query("SELECT 'b'");
  heard = [];
  await connection.commit();
  heard.push('went on');
  connection.release();
  await pool.query('SELECT 2');
  await pool.query('SELECT nothing').catch(() => heard.push('failed'));

  expect(heard).toEqual([
    "sending COMMIT in SELECT 'a', 1; SELECT 'b'",
    "answered COMMIT in SELECT 'a', 1; SELECT 'b'",
    'went on',
    'sending SELECT 2 in SELECT 2',
    'answered SELECT 2 in SELECT 2',
    'sending SELECT nothing in SELECT nothing',
    'failed',
  ]);
});

test('a statement of MySQL at which the process dies is not sent', async () => {
  const pool = createPool(inject('mysqlUrl'));
  onTestFinished(() => pool.end());
  const connection = await pool.getConnection();

  await expect(connection.query('SET @word = ?', [DEADLY])).rejects.toThrow(DEAD);

  const [rows] = await connection.query('SELECT @word AS word');
  connection.release();
  expect(rows).toEqual([{ word: null }]);
});

test('a call by HTTP is heard by its method and path, and its answer unless that is a refusal', async () => {
  const received: unknown[] = [];
  const server = createServer(({ url }, response) => {
    received.push(url);
    response.writeHead(url === '/no' ? 409 : 200).end('body');
  }).listen(0);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const address = server.address();
  assert(address !== null && typeof address === 'object');
  const base = `http://127.0.0.1:${address.port}`;

  const answer = await fetch(`${base}/yes?a=b`, { method: 'POST', body: '{}' });
  heard.push(await answer.text());
  await (await fetch(new URL('/no', base))).text();
  await expect(fetch(`${base}/${DEADLY}`)).rejects.toThrow(DEAD);

  expect(heard).toEqual(['sending POST /yes', 'answered POST /yes', 'body', 'sending GET /no']);
  expect(received).toEqual(['/yes?a=b', '/no']);
});
