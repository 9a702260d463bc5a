/** A private MySQL or MariaDB of a stack: how it is initialised, started and recognised. */

import { existsSync, mkdirSync, realpathSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConnection } from 'mysql2/promise';
import { z } from 'zod';
import { CONTAINER_READY_TIMEOUT_MS, containerCommand, shortHash } from '../install/docker.ts';
import { findProgram, homeOf, isRoot, type Found, type ServerPackage } from '../install/server-packages.ts';
import { runCommand } from '../processes/command.ts';
import { withFreePort } from '../processes/ports.ts';
import type { Processes } from '../processes/processes.ts';
import { MYSQL_ACCOUNT } from './accounts.ts';

/** MariaDB initialises in under a second and starts in one; MySQL 8 takes ten times that, recovery longer. */
const READY_TIMEOUT_MS = 60_000;
const INITIALISE_TIMEOUT_MS = 120_000;
/** A clean shutdown writes the changed pages; a killed one recovers from its log at the next start. */
const STOP_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 1_000;
/** A server elsewhere that is at work may take some seconds. */
const GIVEN_CONNECT_TIMEOUT_MS = 10_000;

/**
 * The first versions that enforce CHECK constraints and know SKIP LOCKED. MariaDB comes first: MySQL cannot
 * open a data folder that MariaDB has made.
 */
export const mysqlPackage: ServerPackage = {
  what: 'MariaDB 10.6 or MySQL 8 (or newer)',
  binaries: ['mariadbd', 'mysqld'],
  programVariable: 'HOLDFAST_MYSQLD',
  isGoodVersion: (output) => {
    const [, major = '0', minor = '0'] = /Ver (\d+)\.(\d+)/.exec(output) ?? [];
    const version = Number(major) * 100 + Number(minor);
    return output.includes('MariaDB') ? version >= 1006 : version >= 800;
  },
  aptPackage: 'mariadb-server',
  brewFormula: 'mariadb',
  variable: 'MYSQL_URL',
};

/** It listens on loopback alone, where any process that reaches it can read this file too. */
const PASSWORD = 'holdfast';

/** Tests may make databases of their own, as long as the name begins with `holdfast`. */
const FIRST_STATEMENTS = `CREATE DATABASE IF NOT EXISTS holdfast CHARACTER SET utf8mb4;
CREATE USER IF NOT EXISTS 'holdfast'@'%' IDENTIFIED BY '${PASSWORD}';
GRANT ALL PRIVILEGES ON \`holdfast%\`.* TO 'holdfast'@'%';
${MYSQL_ACCOUNT}`;

/** Returns the URL of a private MySQL or MariaDB on loopback, with the database `holdfast`. */
export async function startMysql(options: {
  processes: Processes;
  found: Found;
  fresh: boolean;
  /** False lets a power cut take the last second of commits: for tests alone. */
  durable: boolean;
  /** As point-in-time recovery needs it: rows, synced with each commit. False: none. */
  binaryLog?: boolean;
  preferredPort?: number;
  /** Of the process, and of the folder in which it keeps its data. */
  name?: string;
  /** Of each server of a replication its own. */
  serverId?: number;
}): Promise<string> {
  const { processes, found, name = 'mysql' } = options;
  const folder = join(processes.dataDir, name);
  if (found.kind === 'binary' && !existsSync(folder)) await initialise(found.path, folder);
  const firstFile = join(processes.dataDir, `${name}-first-statements.sql`);
  writeFileSync(firstFile, FIRST_STATEMENTS);
  return withFreePort(options.preferredPort, async (port) => {
    const launch = await launchPlan({ ...options, folder, firstFile, port });
    const url = `mysql://holdfast:${PASSWORD}@127.0.0.1:${port}/holdfast`;
    await processes.start({
      name,
      ...launch,
      isReady: () => livesIn(url, launch.dir),
      readyTimeoutMs: found.kind === 'docker' ? CONTAINER_READY_TIMEOUT_MS : READY_TIMEOUT_MS,
      stopTimeoutMs: STOP_TIMEOUT_MS,
    });
    return url;
  });
}

/** The user may have no right to a database that is missing (1044), or may see that it is missing (1049). */
const MISSING_DATABASE = [1044, 1049];

const mysqlError = z.object({ errno: z.int(), message: z.string() });

/** Makes the database that MYSQL_URL names where it is missing. */
export async function createGivenDatabase(url: string): Promise<void> {
  const server = new URL(url);
  const database = decodeURIComponent(server.pathname.slice(1));
  const refused = await refusalOf(url);
  if (refused === undefined) return;
  if (!MISSING_DATABASE.includes(refused.errno)) throw new Error(`MYSQL_URL: ${refused.message}`);
  server.pathname = '/';
  const failed = await refusalOf(
    server.href,
    'CREATE DATABASE IF NOT EXISTS ?? CHARACTER SET utf8mb4',
    database,
  );
  if (failed === undefined) return;
  throw new Error(
    `MYSQL_URL names the database ${database}, which its user can neither use nor create (${failed.message}): create it and grant it to the user, or name another.`,
  );
}

/** @returns the server's refusal of the connection or the statement; undefined: both went well */
async function refusalOf(
  url: string,
  statement = 'DO 1',
  name = '',
): Promise<z.infer<typeof mysqlError> | undefined> {
  try {
    const connection = await createConnection({ uri: url, connectTimeout: GIVEN_CONNECT_TIMEOUT_MS });
    try {
      await connection.query(statement, [name]);
    } finally {
      await connection.end();
    }
    return undefined;
  } catch (error) {
    return mysqlError.parse(error);
  }
}

/** Made beside and renamed, so that an interrupted initialisation is never taken for a database. */
async function initialise(server: string, folder: string): Promise<void> {
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  const place = ['--no-defaults', `--datadir=${unfinished}`, ...ownTmpDir(folder), ...userArgs()];
  const timeoutMs = INITIALISE_TIMEOUT_MS;
  const version = await runCommand(server, ['--version'], { timeoutMs });
  // MySQL initialises itself; MariaDB brings a script for it, beside the server or elsewhere on PATH.
  const result = version.output.includes('MariaDB')
    ? await runCommand(
        findProgram(['mariadb-install-db', 'mysql_install_db'], [homeOf(server)]) ?? 'mariadb-install-db',
        [...place, '--auth-root-authentication-method=normal', '--skip-test-db'],
        { timeoutMs },
      )
    : await runCommand(server, [...place, '--initialize-insecure'], { timeoutMs });
  if (!result.ok) throw new Error(`${folder} could not be made (${result.reason}):\n${result.output}`);
  renameSync(unfinished, folder);
}

/**
 * Not the shared /tmp: a server that starts clears the temporary tables there, also those of others. MySQL
 * needs an existing folder for files that statements read and write, too.
 */
function ownTmpDir(folder: string): string[] {
  const dir = `${folder}.tmp`;
  mkdirSync(dir, { recursive: true });
  return [`--tmpdir=${dir}`, `--secure-file-priv=${dir}`];
}

function userArgs(): string[] {
  return isRoot() ? ['--user=root'] : [];
}

async function livesIn(url: string, dir: string): Promise<boolean> {
  const connection = await createConnection({ uri: url, connectTimeout: CONNECT_TIMEOUT_MS });
  try {
    const [rows] = await connection.query('SELECT @@datadir AS dir');
    return z.array(z.object({ dir: z.string() })).parse(rows)[0]?.dir === `${dir}/`;
  } finally {
    connection.destroy();
  }
}

/** `loose` options are taken by the server that knows them and ignored by the other. */
function settings(durable: boolean, binaryLog = false, serverId = 1): string[] {
  return [
    '--character-set-server=utf8mb4',
    `--innodb-flush-log-at-trx-commit=${durable ? 1 : 0}`,
    // Four files of tests at once, some with several processes of 20 connections each.
    '--max-connections=500',
    '--skip-name-resolve',
    ...(binaryLog
      ? [
          `--server-id=${serverId}`,
          '--log-bin=binlog',
          '--binlog-format=ROW',
          '--sync-binlog=1',
          // A replica that takes over has what it was sent in its own log.
          '--loose-log-slave-updates=ON',
        ]
      : ['--skip-log-bin']),
    '--loose-mysqlx=OFF',
  ];
}

async function launchPlan(plan: {
  processes: Processes;
  found: Found;
  fresh: boolean;
  durable: boolean;
  binaryLog?: boolean;
  serverId?: number;
  folder: string;
  firstFile: string;
  port: number;
}) {
  const { found, port, fresh, durable, binaryLog, serverId } = plan;
  const { dataDir } = plan.processes;
  if (found.kind === 'docker') {
    const innerDir = '/var/lib/mysql';
    const container = await containerCommand({
      name: 'mysql',
      dataDir,
      fresh,
      durable,
      image: 'mysql:8',
      port,
      innerPort: 3306,
      innerDir,
      options: [
        '--env=MYSQL_ALLOW_EMPTY_PASSWORD=yes',
        `--volume=${plan.firstFile}:/docker-entrypoint-initdb.d/holdfast.sql:ro`,
      ],
      args: settings(durable, binaryLog, serverId),
    });
    return { ...container, dir: innerDir };
  }
  const dir = realpathSync(plan.folder);
  // A socket's path may have about a hundred characters, and a repository may lie deeper than that.
  const socket = join(tmpdir(), `holdfast-${shortHash(dir)}.sock`);
  const args = [
    '--no-defaults',
    `--datadir=${dir}`,
    ...ownTmpDir(dir),
    `--port=${port}`,
    '--bind-address=127.0.0.1',
    `--socket=${socket}`,
    `--pid-file=${join(dir, 'mysql.pid')}`,
    `--init-file=${plan.firstFile}`,
    ...userArgs(),
    ...settings(durable, binaryLog, serverId),
  ];
  return { command: found.path, args, dir, marker: dir, lastly: ['rm', '-f', socket, `${socket}.lock`] };
}
