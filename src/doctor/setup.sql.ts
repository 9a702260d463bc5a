/** How MySQL is set up, by what it says of itself, over a connection of the pool with the pool's settings. */

import { z } from 'zod';
import { selectRows, type Pool } from '../mysql/connection.ts';
import { isLoopback, MYSQL_PROMISES, readClock, type Checkup, type Line } from './line.ts';

/** The first that enforce CHECK and know SKIP LOCKED. */
const OLDEST_MYSQL = 8;
const OLDEST_MARIADB = [10, 6] as const;
/** Twenty for each of an API and a worker, and some for operators and backups. */
const LEAST_CONNECTIONS = 60;
/** A page of 500 orders with all that a shop may add to them. */
const LEAST_PACKET_BYTES = 16 * 2 ** 20;

const variableRow = z.object({ Variable_name: z.string().toLowerCase(), Value: z.string() });
/** What mysql2 keeps of a pool's address, and has no type for. */
const poolConfig = z.object({ connectionConfig: z.object({ host: z.string() }) });
const clockRow = z.object({ now: z.date() });

const NAMES = [
  'version',
  'version_comment',
  'transaction_isolation',
  'tx_isolation',
  'time_zone',
  'sql_mode',
  'innodb_lock_wait_timeout',
  'innodb_flush_log_at_trx_commit',
  'log_bin',
  'sync_binlog',
  'binlog_format',
  'read_only',
  'super_read_only',
  'innodb_read_only',
  'max_connections',
  'max_allowed_packet',
];

type Variables = ReadonlyMap<string, string>;

export async function examine(pool: Pool): Promise<Checkup> {
  const rows = await selectRows(pool, variableRow, 'SHOW SESSION VARIABLES WHERE Variable_name IN (?)', [
    NAMES,
  ]);
  const variables = new Map(rows.map(({ Variable_name: name, Value: value }) => [name, value]));
  const [cipher] = await selectRows(pool, variableRow, "SHOW SESSION STATUS LIKE 'Ssl_cipher'");
  // Last: the first statement waits for a connection.
  const beganMs = Date.now();
  const [clock] = await selectRows(pool, clockRow, 'SELECT NOW(3) AS now');
  const endedMs = Date.now();
  const { line, promise } = judgeFlush(variables);
  return {
    lines: [
      judgeVersion(variables),
      line,
      judgeSession(variables),
      ...judgeReplication(variables),
      ...judgeReadOnly(variables),
      judgeRoom(variables),
      judgeWire(cipher?.Value ?? '', pool),
    ],
    ...(clock && { clocks: [readClock('MySQL', clock.now.getTime(), { beganMs, endedMs })] }),
    promise,
  };
}

function judgeVersion(variables: Variables): Line {
  const version = variables.get('version') ?? '';
  const isMaria = /mariadb/i.test(`${version} ${variables.get('version_comment')}`);
  const found = `${isMaria ? 'MariaDB' : 'MySQL'} ${version}`;
  const [major = 0, minor = 0] = version.split('.').map(Number.parseFloat);
  const [oldestMajor, oldestMinor] = OLDEST_MARIADB;
  const isGood = isMaria
    ? major > oldestMajor || (major === oldestMajor && minor >= oldestMinor)
    : major >= OLDEST_MYSQL;
  if (isGood) return { level: 'ok', what: 'MySQL version', found };
  return {
    level: 'bad',
    what: 'MySQL version',
    found,
    means: 'It does not hold the checks by which no unit is sold twice.',
    remedy: `Use MySQL ${OLDEST_MYSQL}, or MariaDB ${OLDEST_MARIADB.join('.')}, or newer.`,
  };
}

function judgeFlush(variables: Variables): { line: Line; promise: string } {
  const flush = variables.get('innodb_flush_log_at_trx_commit');
  const hasBinlog = isOn(variables.get('log_bin'));
  const sync = variables.get('sync_binlog');
  const binlog = hasBinlog ? `binary log with sync_binlog=${sync}` : 'no binary log';
  const found = `innodb_flush_log_at_trx_commit=${flush ?? 'not said'}, ${binlog}`;
  const what = 'MySQL durability';
  const { each, binlog: unsynced, system, none } = MYSQL_PROMISES;
  const remedy = 'Set `innodb_flush_log_at_trx_commit = 1`.';
  if (flush === '1' && (!hasBinlog || sync === '1'))
    return { promise: each, line: { level: 'ok', what, found } };
  if (flush === '1')
    return {
      promise: unsynced,
      line: { level: 'warn', what, found, means: unsynced, remedy: 'Set `sync_binlog = 1`.' },
    };
  // MariaDB's 3 flushes more often than 1 does.
  if (flush === '3') return { promise: each, line: { level: 'ok', what, found } };
  if (flush === '2') return { promise: system, line: { level: 'warn', what, found, means: system, remedy } };
  return { promise: none, line: { level: 'bad', what, found, means: none, remedy } };
}

/** A connection has the pool's settings, unless something in between keeps them from the server. */
function judgeSession(variables: Variables): Line {
  const isolation = variables.get('transaction_isolation') ?? variables.get('tx_isolation') ?? 'not said';
  const zone = variables.get('time_zone') ?? 'not said';
  const mode = variables.get('sql_mode') ?? '';
  const wait = variables.get('innodb_lock_wait_timeout') ?? 'not said';
  const what = 'MySQL session';
  const found = `isolation ${isolation}, time zone ${zone}, locks waited for ${wait} s`;
  const isStrict = mode.includes('STRICT_ALL_TABLES');
  if (isolation === 'READ-COMMITTED' && zone === '+00:00' && isStrict) return { level: 'ok', what, found };
  return {
    level: 'bad',
    what,
    found: isStrict ? found : `${found}, sql_mode ${mode || 'empty'}`,
    means:
      'Not what each connection of ours asks for: batches may block each other, times be off, and values be cut.',
    remedy: 'Let the proxy between here and MySQL pass `SET SESSION` on, and keep a connection its own.',
  };
}

/** InnoDB refuses each write under READ COMMITTED to a binary log of statements. */
function judgeReplication(variables: Variables): Line[] {
  if (!isOn(variables.get('log_bin'))) return [];
  const format = variables.get('binlog_format');
  const line = { what: 'MySQL binary log', found: `binlog_format=${format ?? 'not said'}` };
  if (format !== 'STATEMENT') return [{ level: 'ok', ...line }];
  return [
    {
      level: 'bad',
      ...line,
      means: 'MySQL refuses each order: READ COMMITTED cannot be logged by statements.',
      remedy: 'Set `binlog_format = ROW`.',
    },
  ];
}

function judgeReadOnly(variables: Variables): Line[] {
  // MariaDB names the kinds of read_only from 12 on.
  const names = ['read_only', 'super_read_only', 'innodb_read_only'].filter(
    (name) => !['0', 'OFF', undefined].includes(variables.get(name)),
  );
  if (names.length === 0) return [];
  return [
    {
      level: 'bad',
      what: 'MySQL writes',
      found: `${names.join(', ')}: on`,
      means: 'No order is stored, and payment notices are refused.',
      remedy: 'Point MYSQL_URL at the primary, or switch this off where it is the primary.',
    },
  ];
}

function judgeRoom(variables: Variables): Line {
  const connections = Number(variables.get('max_connections') ?? 0);
  const packet = Number(variables.get('max_allowed_packet') ?? 0);
  const line = {
    what: 'MySQL room',
    found: `max_connections=${connections}, max_allowed_packet=${Math.round(packet / 2 ** 20)} MiB`,
  };
  if (connections >= LEAST_CONNECTIONS && packet >= LEAST_PACKET_BYTES) return { level: 'ok', ...line };
  return {
    level: 'warn',
    ...line,
    means:
      'Each process opens up to MYSQL_CONNECTIONS, 20 unless set; a page of large orders is refused where it does not fit.',
    remedy: `Set max_connections to as many for each API and worker and some more, at least ${LEAST_CONNECTIONS}, and max_allowed_packet to 16 MiB.`,
  };
}

function judgeWire(cipher: string, pool: Pool): Line {
  const what = 'MySQL connection';
  if (cipher !== '') return { level: 'ok', what, found: `TLS, ${cipher}` };
  const host = poolConfig.safeParse(pool.pool.config).data?.connectionConfig.host ?? 'not said';
  if (isLoopback(host)) return { level: 'ok', what, found: 'on this machine' };
  return {
    level: 'warn',
    what,
    found: `not encrypted, to ${host}`,
    means: 'Orders, and the password, are read by whoever listens in between.',
    remedy: 'Add `?ssl={"rejectUnauthorized":true}` to MYSQL_URL, unless the network is yours alone.',
  };
}

function isOn(value: string | undefined): boolean {
  return value === 'ON' || value === '1';
}
