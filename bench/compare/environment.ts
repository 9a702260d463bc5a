/** What a measurement is taken on: the machine, the commit, the versions of Node, servers and packages. */

import { existsSync, readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, release, totalmem, type } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { repoDir } from '../../stack/install/repo-dir.ts';
import { findProgram } from '../../stack/install/server-packages.ts';
import { runCommand } from '../../stack/processes/command.ts';
import { locateTemporal } from '../../stack/servers/temporal.ts';
import type { Environment } from './results.ts';

const TIMEOUT_MS = 10_000;
const BYTES_PER_GB = 1024 ** 3;

/** With the environment variable that names a running one instead, whose version is not known here. */
const SERVERS = [
  { name: 'Redis', binaries: ['redis-server'], args: ['--version'], variable: 'REDIS_URL' },
  { name: 'MySQL', binaries: ['mysqld', 'mariadbd'], args: ['--version'], variable: 'MYSQL_URL' },
  // Debian's package is asked: RabbitMQ's own command leaves a port mapper of Erlang running behind it.
  {
    name: 'RabbitMQ',
    binaries: ['dpkg-query'],
    args: ['--show', '--showformat=${Version}', 'rabbitmq-server'],
    variable: 'RABBITMQ_URL',
  },
  { name: 'wrk', binaries: ['wrk'], args: ['--version'], variable: undefined },
];

/** Ours that carry the load, and those of the peers; listed where they are installed. */
const PACKAGES = [
  'koa',
  'ioredis',
  'mysql2',
  '@temporalio/worker',
  'bullmq',
  'amqplib',
  '@dbos-inc/dbos-sdk',
  '@restatedev/restate-sdk',
  '@restatedev/restate-server',
];

const packageJson = z.object({ version: z.string() });

export async function readEnvironment(): Promise<Environment> {
  return { commit: await readCommit(), machine: readMachine(), versions: await readVersions() };
}

function readMachine(): Environment['machine'] {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGb: Math.round(totalmem() / BYTES_PER_GB),
    os: `${readOsName() ?? type()}, kernel ${release()}, ${arch()}`,
  };
}

function readOsName(): string | undefined {
  const file = '/etc/os-release';
  return existsSync(file) ? /^PRETTY_NAME="(.+)"$/m.exec(readFileSync(file, 'utf8'))?.[1] : undefined;
}

async function readCommit(): Promise<string> {
  const git = (...args: string[]) => runCommand('git', args, { cwd: repoDir, timeoutMs: TIMEOUT_MS });
  const head = await git('rev-parse', '--short=12', 'HEAD');
  if (!head.ok) return 'unknown';
  // What this command writes itself, and other prose, changes no figure.
  const changes = await git('status', '--porcelain', '--', '.', ':!docs', ':!*.md');
  return changes.output.trim() === '' ? head.output.trim() : `${head.output.trim()} with changes`;
}

async function readVersions(): Promise<Record<string, string>> {
  const servers = await Promise.all(
    SERVERS.map(async ({ name, binaries, args, variable }) => {
      const given = variable !== undefined && process.env[variable] !== undefined;
      return [name, given ? `of ${variable}` : await askVersion(findProgram(binaries), args)] as const;
    }),
  );
  const temporal =
    process.env['TEMPORAL_ADDRESS'] === undefined
      ? await askVersion(await locateTemporal(() => {}), ['--version'])
      : 'of TEMPORAL_ADDRESS';
  const packages = PACKAGES.map((name) => {
    const file = join(repoDir, 'node_modules', name, 'package.json');
    return [
      name,
      existsSync(file) ? packageJson.parse(JSON.parse(readFileSync(file, 'utf8'))).version : '',
    ] as const;
  });
  const all = [['Node', process.versions.node], ...servers, ['Temporal', temporal], ...packages] as const;
  return Object.fromEntries(all.filter(([, version]) => version !== ''));
}

/** Empty when it is not there. */
async function askVersion(program: string | undefined, args: readonly string[]): Promise<string> {
  if (program === undefined) return '';
  // wrk prints its version and then ends as if it had been called wrongly.
  const { output } = await runCommand(program, args, { timeoutMs: TIMEOUT_MS });
  const server = /Server (\d+\.[\d.]+)/.exec(output)?.[1];
  return server ?? /\d+\.\d+[\w.+~-]*/.exec(output)?.[0] ?? '';
}
