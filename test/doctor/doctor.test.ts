/** `ops doctor` on servers that are set up well, and with one thing wrong at a time. */

import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { realpathSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { createConnection, createPool, type Connection } from 'mysql2/promise';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import { z } from 'zod';
import { diagnose, warnAtStart, type Patient } from '../../src/doctor/doctor.ts';
import type { Line } from '../../src/doctor/line.ts';
import { examine as examineMysql } from '../../src/doctor/setup.sql.ts';
import { BOUNDS } from '../../src/mysql/connection.ts';
import { openProvider } from '../../src/providers/open.ts';
import { createSecret } from '../../src/push/deliverer.ts';
import { shortHash } from '../../stack/install/docker.ts';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { locateServers } from '../../stack/install/server-packages.ts';
import { mysqlPackage, startMysql } from '../../stack/servers/mysql.ts';
import { openTcpProxy } from '../../stack/servers/tcp-proxy.ts';
import { openTestLog } from '../api/test-log.ts';
import { WEBHOOK_SECRET } from '../support/http-app.ts';
import { openOps } from '../support/ops.ts';
import { openPrivateStage, type PrivateStage } from '../support/private-stage.ts';
import { openTestProcesses } from '../support/test-processes.ts';
import { tool } from '../support/tools.ts';
import { waitFor } from '../support/wait.ts';
import { createNamespace } from '../support/workflows/temporal.ts';
import { startWorker } from '../support/workflows/worker.ts';

const NOWHERE = '127.0.0.1:1';

const closers: (() => Promise<unknown>)[] = [];
let stage: PrivateStage;
let redis: Redis;
let root: Connection;
let namespace: string;
let providerUrl: string;
/** What the provider says its clock shows, off by so much. In ms. */
let providerOffMs = 0;

beforeAll(async () => {
  const { processes, close } = await openTestProcesses((crash) => console.error(crash.message));
  closers.push(close);
  const [found] = await locateServers([mysqlPackage], () => {});
  if (!found) throw new Error('MySQL was asked for');
  const mysqlUrl = await startMysql({
    processes: {
      ...processes,
      start: (options) => processes.start({ ...options, args: [...options.args, '--log-bin=bin'] }),
    },
    found,
    fresh: true,
    durable: true,
  });
  stage = await openPrivateStage((end) => closers.push(end), mysqlUrl);
  const dir = realpathSync(join(processes.dataDir, 'mysql'));
  root = await createConnection({
    user: 'root',
    socketPath: join(tmpdir(), `holdfast-${shortHash(dir)}.sock`),
  });
  closers.push(() => root.end());
  redis = new Redis(stage.servers.redisUrl);
  closers.push(() => redis.quit());
  const provider = createServer((_, response) => {
    response.setHeader('date', new Date(Date.now() + providerOffMs).toUTCString()).end();
  }).listen(0, '127.0.0.1');
  await once(provider, 'listening');
  closers.push(async () => provider.close());
  providerUrl = `http://127.0.0.1:${z.object({ port: z.int() }).parse(provider.address()).port}`;
  namespace = await createNamespace({ retentionHours: 72 });
  const access = {
    PAYMENT_PROVIDER_API_KEY: 'sk',
    WEBHOOK_SECRETS: [WEBHOOK_SECRET],
    PAYMENT_PROVIDER_URL: providerUrl,
  };
  const worker = await startWorker({
    namespace,
    stores: stage.stores,
    provider: openProvider(access, stage.stores.deployment),
  });
  closers.push(() => worker.stop());
  await makeGood();
});
afterAll(async () => {
  for (const close of closers.splice(0).toReversed()) await close();
});
afterEach(makeGood);

async function makeGood(): Promise<void> {
  providerOffMs = 0;
  await redis.replicaof('NO', 'ONE');
  await redis.config('SET', 'appendonly', 'yes');
  await redis.config('SET', 'appendfsync', 'always');
  await redis.config('SET', 'save', '');
  await redis.config('SET', 'maxmemory-policy', 'noeviction');
  await root.query('SET GLOBAL innodb_flush_log_at_trx_commit = 1');
  await root.query('SET GLOBAL sync_binlog = 1');
  await root.query("SET GLOBAL binlog_format = 'ROW'");
  await root.query('SET GLOBAL read_only = 0');
}

function environment(): Record<string, string> {
  return { TEMPORAL_NAMESPACE: namespace, PAYMENT_PROVIDER_URL: providerUrl };
}

const diagnosis = z.object({
  promise: z.array(z.string()),
  lines: z.array(z.custom<Line>((line) => typeof line === 'object')),
});

/** @param env what differs from a good one */
async function consult(env: Record<string, string> = {}) {
  const { exitCode, out } = await openOps(stage.stores, { ...environment(), ...env })('doctor', '--json');
  const { lines, promise } = diagnosis.parse(JSON.parse(out));
  return { exitCode, promise, lines, wrong: lines.filter(({ level }) => level !== 'ok') };
}

/** The command as a process of its own. @param first what a shell does before */
async function runProcess(first: string, more: Record<string, string> = {}) {
  const env = {
    PATH: process.env['PATH'],
    NODE_ENV: 'test',
    REDIS_URL: stage.servers.redisUrl,
    MYSQL_URL: stage.servers.mysqlUrl,
    TEMPORAL_ADDRESS: inject('temporalAddress'),
    PAYMENT_PROVIDER_API_KEY: 'sk',
    WEBHOOK_SECRETS: WEBHOOK_SECRET,
    ORDER_SIGNING_SECRETS: 'a secret of thirty-two characters',
    ...environment(),
    ...more,
  };
  const command = `${first}exec "${process.execPath}" dist/src/ops/main.js doctor --json`;
  const printed = await new Promise<string>((resolve, reject) => {
    // Its exit code is 1 where something is bad.
    execFile('sh', ['-c', command], { cwd: repoDir, env }, (error, stdout, stderr) =>
      stdout === '' ? reject(new Error(stderr, { cause: error })) : resolve(stdout),
    );
  });
  const { lines } = diagnosis.parse(JSON.parse(printed));
  return { wrong: lines.filter(({ level }) => level !== 'ok') };
}

test('on a good set-up each line is ok, and it says what a 202 means there', async () => {
  await waitFor('the pollers', async () => (await consult()).wrong.length === 0);
  const { exitCode, out } = await openOps(stage.stores, environment(), 200)('doctor');
  expect(out).toMatch(/^What a 202 means here\n {2}A 202 survives a power cut of Redis/);
  expect(out).toMatch(/\nok +Redis persistence: append-only file, appendfsync always\n/);
  expect(out).toMatch(
    /\nok +MySQL durability: innodb_flush_log_at_trx_commit=1, binary log with sync_binlog=1\n/,
  );
  expect(out).toMatch(/\nok +MySQL session: isolation READ-COMMITTED, time zone \+00:00/);
  expect(out).toMatch(/\nok +clock of (?:Redis|MySQL|provider|Temporal): agrees/);
  expect(out).toMatch(/\n\n0 bad, 0 unknown, 0 warn, \d+ ok\n$/);
  expect(exitCode).toBe(0);
});

test.each<[string, [string, string][], Line['level'], RegExp, RegExp]>([
  ['appendfsync everysec', [['appendfsync', 'everysec']], 'warn', /persistence/, /about the last second/],
  ['no persistence at all', [['appendonly', 'no']], 'bad', /persistence/, /lost with a restart/],
  [
    'snapshots alone',
    [
      ['appendonly', 'no'],
      ['save', '3600 1'],
    ],
    'bad',
    /persistence/,
    /newer than its last snapshot/,
  ],
  ['eviction', [['maxmemory-policy', 'allkeys-lru']], 'bad', /eviction/, /throws accepted orders away/],
])('Redis with %s', async (_, settings, level, what, means) => {
  for (const [name, value] of settings) await redis.config('SET', name, value);
  const { wrong, exitCode } = await consult();
  expect(wrong).toEqual([
    expect.objectContaining({
      level,
      what: expect.stringMatching(what),
      means: expect.stringMatching(means),
      remedy: expect.any(String),
    }),
  ]);
  expect(exitCode).toBe(level === 'bad' ? 1 : 0);
});

test('a Redis that is a read-only replica', async () => {
  await redis.replicaof('127.0.0.1', 1);
  const { wrong, exitCode } = await consult();
  expect(wrong).toContainEqual(
    expect.objectContaining({ level: 'bad', what: 'Redis replication', found: 'a replica of 127.0.0.1:1' }),
  );
  expect(exitCode).toBe(1);
});

test('a managed Redis that refuses CONFIG: how it writes its file is unknown, which is not ok', async () => {
  await redis.acl('SETUSER', 'managed', 'on', '>secret', '~*', '&*', '+@all', '-config');
  const url = new URL(stage.servers.redisUrl);
  url.username = 'managed';
  url.password = 'secret';
  const { wrong, promise } = await consult({ REDIS_URL: url.href });
  expect(wrong).toEqual([
    expect.objectContaining({
      level: 'unknown',
      what: 'Redis persistence',
      found: 'append-only file, appendfsync not said (CONFIG is refused)',
    }),
  ]);
  expect(promise[0]).toMatch(/is not known/);
});

test.each<[string, string, Line['level'], string]>([
  ['innodb_flush_log_at_trx_commit = 2', 'warn', 'warn', 'MySQL durability'],
  ['innodb_flush_log_at_trx_commit = 0', 'bad', 'bad', 'MySQL durability'],
  ['sync_binlog = 0', 'warn', 'warn', 'MySQL durability'],
  ["binlog_format = 'STATEMENT'", 'bad', 'bad', 'MySQL binary log'],
  ['read_only = 1', 'bad', 'bad', 'MySQL writes'],
])('MySQL with %s is %s', async (setting, _, level, what) => {
  await root.query(`SET GLOBAL ${setting}`);
  const { wrong, exitCode } = await consult();
  expect(wrong).toEqual([
    expect.objectContaining({ level, what, means: expect.any(String), remedy: expect.any(String) }),
  ]);
  expect(exitCode).toBe(level === 'bad' ? 1 : 0);
});

test('status names a MySQL that is read-only first', async () => {
  await root.query('SET GLOBAL read_only = 1');
  const { exitCode, out } = await openOps(stage.stores, environment(), 200)('status');
  expect(out).toMatch(/^Wrong\n {2}MySQL takes no writes.*\n {4}→ Let the address in MYSQL_URL lead to/);
  expect(exitCode).toBe(1);
});

test('a MySQL whose sessions do not have the isolation of the pool, as behind a proxy', async () => {
  const pool = Object.assign(createPool(stage.servers.mysqlUrl), { bounds: BOUNDS });
  const { lines } = await examineMysql(pool);
  await pool.end();
  expect(lines).toContainEqual(
    expect.objectContaining({
      level: 'bad',
      what: 'MySQL session',
      found: expect.stringMatching(/^isolation REPEATABLE-READ/),
    }),
  );
});

test('connections that are not encrypted and leave the machine', async () => {
  // An address of this machine that does not look like one.
  const elsewhere = (url: string) => url.replace('127.0.0.1', '0.0.0.0');
  const { wrong, exitCode } = await consult({
    REDIS_URL: elsewhere(stage.servers.redisUrl),
    MYSQL_URL: elsewhere(stage.servers.mysqlUrl),
  });
  expect(wrong.map(({ level, what }) => `${level} ${what}`)).toEqual([
    'warn Redis connection',
    'warn MySQL connection',
  ]);
  expect(exitCode).toBe(0);
});

test('a namespace without search attributes that forgets after a day, and on which no worker works', async () => {
  const bare = await createNamespace({ withAttributes: false });
  const { wrong, exitCode } = await consult({ TEMPORAL_NAMESPACE: bare });
  expect(wrong.map(({ level, what, found }) => `${level} ${what}: ${found}`)).toEqual([
    'bad Temporal search attributes: without OrderStatus, UserId, SaleId',
    `warn Temporal retention: ${bare} keeps ended workflows for 24 h`,
    'warn Temporal queue orders: 0 pollers of workflows',
    'warn Temporal queue payments: 0 pollers of activities',
  ]);
  expect(exitCode).toBe(1);
});

test('a namespace that is not there', async () => {
  const { wrong } = await consult({ TEMPORAL_NAMESPACE: 'nobodys' });
  expect(wrong).toEqual([
    expect.objectContaining({ level: 'bad', found: 'nobodys is not there, or not ours to see' }),
  ]);
});

test.each([
  ['Redis', { REDIS_URL: `redis://${NOWHERE}` }, ['bad Redis', 'unknown deployment', 'unknown tokens']],
  [
    'MySQL',
    { MYSQL_URL: `mysql://u:p@${NOWHERE}/none` },
    ['bad MySQL', 'bad endpoints', 'unknown deployment'],
  ],
  ['Temporal', { TEMPORAL_ADDRESS: NOWHERE }, ['bad Temporal']],
  ['the provider', { PAYMENT_PROVIDER_URL: `http://${NOWHERE}` }, ['bad provider']],
])('with %s away the others are looked at', async (_, env, expected) => {
  const { wrong, lines, exitCode } = await consult(env);
  expect(wrong.map(({ level, what }) => `${level} ${what}`)).toEqual(expected);
  expect(lines.length).toBeGreaterThan(10);
  expect(exitCode).toBe(1);
});

test('servers that hang are given up together', async () => {
  const hang = async (url: string) => {
    const proxy = await openTcpProxy(new URL(url).host);
    closers.push(() => proxy.close());
    proxy.silence();
    return url.replace(new URL(url).host, proxy.address);
  };
  const { wrong } = await consult({
    REDIS_URL: await hang(stage.servers.redisUrl),
    MYSQL_URL: await hang(stage.servers.mysqlUrl),
    TEMPORAL_ADDRESS: (await hang(`http://${inject('temporalAddress')}`)).replace('http://', ''),
    PAYMENT_PROVIDER_URL: await hang(providerUrl),
  });
  const given = wrong.map(({ level, what }) => `${level} ${what}`);
  expect(given.toSorted()).toEqual(
    [
      'bad MySQL',
      'bad Redis',
      'bad Temporal',
      'bad endpoints',
      'bad provider',
      'unknown deployment',
      'unknown tokens',
    ].toSorted(),
  );
});

test('a host whose clock is two minutes behind those of all others', async () => {
  const library = tool('libfaketime');
  const { wrong } = await runProcess('', { LD_PRELOAD: library, FAKETIME: '-120s' });
  const off = wrong.map(
    ({ level, what, found }) => `${level} ${what}: ${found.replace(/\d+(?:\.\d)? s/, 'N s')}`,
  );
  expect(off.toSorted()).toEqual([
    "bad clock of MySQL: N s ahead of this host's",
    "bad clock of Redis: N s ahead of this host's",
    "warn clock of Temporal: N s ahead of this host's",
    "warn clock of provider: N s ahead of this host's",
  ]);
});

test('a provider whose clock is ten minutes behind: its notices are refused', async () => {
  providerOffMs = -600_000;
  const { wrong } = await consult();
  expect(wrong).toEqual([
    expect.objectContaining({
      level: 'bad',
      what: 'clock of provider',
      found: expect.stringMatching(/^(?:599|600) s behind/),
    }),
  ]);
});

test('an endpoint that an operator has disabled', async () => {
  const terms = { url: 'https://shop.example/events', types: null, saleId: null, description: '' };
  await stage.stores.endpoints.put('office', terms, createSecret(), 'ada');
  await stage.stores.endpoints.disable('office', 'ada');
  const { wrong, exitCode } = await consult();
  await stage.stores.endpoints.remove('office', 'ada');
  expect(wrong).toEqual([
    expect.objectContaining({
      level: 'bad',
      what: 'endpoint office',
      found: expect.stringMatching(/^disabled: by an operator/),
    }),
  ]);
  expect(exitCode).toBe(1);
});

test('a process that may open few files', async () => {
  const { wrong } = await runProcess('ulimit -n 512; ');
  expect(wrong).toEqual([
    expect.objectContaining({
      level: 'warn',
      what: 'open files',
      found: 'a limit of 512, and 1024 are wanted',
    }),
  ]);
});

test('a clock is not judged by an answer that took longer than it may be off', async () => {
  const measured = async (aheadMs: number, withinMs: number): Promise<string> => {
    const clocks = [{ server: 'Redis', aheadMs, withinMs }];
    const { lines } = await diagnose([
      { what: 'it', means: '', examine: async () => ({ lines: [], clocks }) },
    ]);
    return lines.map(({ level, found }) => `${level}: ${found}`).join();
  };
  expect(await measured(40, 2)).toBe("ok: agrees with this host's to within 0.0 s");
  expect(await measured(900, 600)).toBe("ok: agrees with this host's to within 1.5 s");
  expect(await measured(300, 1_900)).toBe('unknown: could not be measured: the answer took 3.8 s');
  // However slow the answer was, by so much it is off.
  expect(await measured(-9_000, 1_900)).toBe("bad: 7.1 s behind this host's");
});

test('a Redis that answers after two seconds is looked at, and its clock is not judged', async () => {
  const url = new URL(stage.servers.redisUrl);
  const wire = await openTcpProxy(url.host);
  closers.push(() => wire.close());
  wire.slow(2_200);
  url.host = wire.address;
  const { lines, wrong, exitCode } = await consult({ REDIS_URL: url.href });
  expect(lines).toContainEqual(expect.objectContaining({ level: 'ok', what: 'Redis persistence' }));
  expect(wrong).toEqual([
    expect.objectContaining({
      level: 'unknown',
      what: 'clock of Redis',
      found: expect.stringMatching(/^could not be measured: the answer took [\d.]+ s$/),
    }),
  ]);
  expect(exitCode).toBe(0);
});

test('a process that starts logs what is not ok, and is silent once it stops', async () => {
  const patient: Patient = {
    what: 'Redis',
    means: 'nothing is sold',
    examine: () => Promise.reject(new Error('away')),
  };
  const { log, lines } = openTestLog();
  await warnAtStart([patient], log, AbortSignal.abort());
  expect(lines()).toEqual([]);
  await warnAtStart([patient], log, new AbortController().signal);
  expect(lines()).toEqual([
    expect.objectContaining({ level: 40, doctor: 'bad', what: 'Redis', found: 'away' }),
  ]);
});
