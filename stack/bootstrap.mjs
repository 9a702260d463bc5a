/**
 * The first thing that runs after `git clone`, with Node alone and no dependency. `npm start`, `npm test` and
 * the like begin here: it installs and builds what is missing or stale, and then runs the command itself.
 */

import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const OLDEST_NODE = [20, 19];

/** A run of these projects of vitest.config.ts. */
function vitest(...projects) {
  const args = ['run', ...projects.map((project) => `--project=${project}`)];
  return { script: 'node_modules/vitest/vitest.mjs', args, needsBuild: true, isTestRun: true };
}

/**
 * Each command runs a file or a script of package.json, and says whether it needs the compiled sources. `env`
 * is added to the environment: stack/test-setup.ts reads TEST_SERVER.
 */
const COMMANDS = {
  start: { script: 'dist/stack/start.js', needsBuild: true },
  dev: { script: 'dist/stack/start.js', args: ['--watch'], needsBuild: true },
  try: { script: 'dist/stack/try.js', needsBuild: true },
  audit: { script: 'dist/stack/audit.js', needsBuild: true },
  ops: { script: 'dist/stack/ops.js', needsBuild: true },
  figures: { ...vitest(), args: ['run', '--config=test/figures/vitest.config.ts'] },
  renew: { script: 'dist/stack/renew/renew.js', needsBuild: true },
  'provider-check': { script: 'dist/provider-check/main.js', needsBuild: true },
  bench: { script: 'dist/bench/main.js', needsBuild: true },
  load: { script: 'dist/bench/load-test/main.js', needsBuild: true },
  chaos: { script: 'dist/chaos/main.js', needsBuild: true },
  lint: { npmScript: 'lint:tools', needsBuild: false },
  test: vitest('fast'),
  'test:slow': vitest('slow', 'crash'),
  'test:smoke': vitest('smoke'),
  'test:storm': vitest('storm'),
  /** Parts of `test:release`, which runs all of these. */
  'test:faults': vitest('faults'),
  'test:redis-8': { ...vitest('redis-8'), env: { TEST_SERVER: 'redis-8' } },
  'test:mysql': { ...vitest('mysql'), env: { TEST_SERVER: 'mysql' } },
  'test:openapi': vitest('openapi'),
  'test:image': vitest('image'),
  'test:release': { script: 'dist/stack/release.js', needsBuild: true },
  explore: { script: 'dist/stack/explore.js', needsBuild: true },
  /** Brings dist/ up to date and runs nothing. */
  build: { needsBuild: true },
};

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/** A Ctrl-C arrives from the terminal and once more through npm; the child should receive it once. */
const REPEATED_SIGNAL_MS = 500;

/** A database of the tests is made in 40 ms there, and in 0.2 to 1.5 s on a disk that others use too. */
const MEMORY = '/dev/shm';
/** The servers of a run and those of its tests have had less than half of it. */
const ROOM_BYTES = 4 * 1024 ** 3;

/** A killed process is gone within milliseconds; this bounds one that the kernel holds, and new ones. */
const SWEEPS_MAX = 100;
const SWEEP_EVERY_MS = 50;

const repo = dirname(dirname(fileURLToPath(import.meta.url)));
const inRepo = (...parts) => join(repo, ...parts);
const say = (line) => console.log(`· ${line}`);

process.exitCode = await main(process.argv[2], process.argv.slice(3));

async function main(name, args) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    console.error(`Holdfast needs Node ${OLDEST_NODE.join('.')} or newer; this is ${process.versions.node}.`);
    return 1;
  }
  if (!Object.hasOwn(COMMANDS, name ?? '')) {
    console.error(`Usage: node stack/bootstrap.mjs <${Object.keys(COMMANDS).join('|')}>`);
    return 1;
  }
  const command = COMMANDS[name];
  const steps = [installIfNeeded, ...(command.needsBuild ? [buildIfNeeded] : [])];
  for (const step of steps) {
    const exitCode = await step();
    if (exitCode !== 0) return exitCode;
  }
  if (command.npmScript) return npm(['run', '--silent', command.npmScript]);
  if (!command.script) return 0;
  Object.assign(process.env, command.env);
  const all = [inRepo(command.script), ...(command.args ?? []), ...args];
  return command.isTestRun ? runTests(all) : run(process.execPath, all);
}

/**
 * All data of the run lies in one folder, and all processes that it starts have the name of that folder in
 * their environment. Whatever became of vitest, both are gone afterwards. A run inside a run has its folder
 * inside the other's. What a run left whose own process was killed, the next one removes.
 */
async function runTests(args) {
  const parent = process.env.HOLDFAST_TEST_RUN ?? (hasRoomInMemory() ? MEMORY : tmpdir());
  for (const name of readdirSync(parent).filter(isLeft)) await removeRun(join(parent, name));
  const dir = mkdtempSync(join(parent, `holdfast-test-${process.pid}-`));
  // A second Ctrl-C must not end this process before all is removed.
  const ignore = () => {};
  for (const name of SIGNALS) process.on(name, ignore);
  const exitCode = await run(process.execPath, args, { env: { ...process.env, HOLDFAST_TEST_RUN: dir } });
  await removeRun(dir);
  for (const name of SIGNALS) process.off(name, ignore);
  return exitCode;
}

/** @param name of a folder; whether it is of a run whose process is gone */
function isLeft(name) {
  const [, pid] = /^holdfast-test-(\d+)-/.exec(name) ?? [];
  return pid !== undefined && !isAlive(Number(pid));
}

async function removeRun(dir) {
  for (let sweep = 0; sweep < SWEEPS_MAX; sweep++) {
    const left = processesThatName(dir);
    if (left.length === 0) break;
    for (const pid of left) signal(pid, 'SIGKILL');
    await delay(SWEEP_EVERY_MS);
  }
  rmSync(dir, { recursive: true, force: true });
}

function hasRoomInMemory() {
  if (!existsSync(MEMORY)) return false;
  const { bavail, bsize } = statfsSync(MEMORY);
  return Math.min(bavail * bsize, process.availableMemory()) >= ROOM_BYTES;
}

/** In the environment or the command line; only Linux shows the environment. */
function processesThatName(dir) {
  const all = existsSync('/proc/self/environ') ? processesOfLinux() : processesOfPs();
  return all.filter(({ text }) => text.includes(dir)).map(({ pid }) => pid);
}

function processesOfLinux() {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map((pid) => {
    try {
      const texts = ['environ', 'cmdline'].map((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8'));
      return { pid: Number(pid), text: texts.join(' ') };
    } catch {
      // Another user's, or gone.
      return { pid: Number(pid), text: '' };
    }
  });
}

function processesOfPs() {
  const lines = execFileSync('ps', ['-A', '-ww', '-o', 'pid=,args='], { encoding: 'utf8' }).split('\n');
  return lines.map((text) => ({ pid: Number.parseInt(text, 10), text }));
}

/**
 * npm writes its own lock into node_modules when it has finished. The stamp spares a new install when the
 * lock file of the project was merely touched.
 */
async function installIfNeeded() {
  const lock = inRepo('package-lock.json');
  const installed = inRepo('node_modules', '.package-lock.json');
  const stamp = inRepo('node_modules', '.holdfast-installed');
  const hash = createHash('sha256').update(readFileSync(lock)).digest('hex');
  const isCurrent =
    existsSync(installed) &&
    (mtimeMs(installed) >= mtimeMs(lock) || (existsSync(stamp) && readFileSync(stamp, 'utf8') === hash));
  if (isCurrent) return 0;
  // What npm prints is shown where it fails, also to those who want it silent otherwise.
  const flags = ['--include=dev', '--no-audit', '--no-fund', '--loglevel=notice'];
  say('Installing the dependencies (npm ci)');
  const printed = [];
  let exitCode = await npm(['ci', ...flags], printed);
  if (exitCode === 1) {
    // A lock that does not fit this npm or its registry makes npm ci refuse; npm install takes what it gets.
    say('npm ci did not work here; trying npm install, which leaves the lock file as it is');
    exitCode = await npm(['install', '--no-save', ...flags], printed);
  }
  if (exitCode === 0) writeFileSync(stamp, hash);
  else process.stderr.write(Buffer.concat(printed));
  return exitCode;
}

async function buildIfNeeded() {
  const stamp = inRepo('dist', '.built');
  const sources = [
    'src',
    'sandbox',
    'provider-check',
    'stack',
    'bench',
    'chaos',
    'test/compositions',
    'packages/client/src',
    'packages/client/tsconfig.json',
    'package.json',
    'package-lock.json',
    'tsconfig.json',
    'tsconfig.dev.json',
  ];
  if (existsSync(stamp) && sources.every((source) => newestMs(inRepo(source)) <= mtimeMs(stamp))) return 0;
  say('Building');
  const startedAt = new Date();
  const exitCode = await npm(['run', '--silent', 'build:dev']);
  if (exitCode !== 0) return exitCode;
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, '');
  // As of the start: a file saved while the compiler ran is newer than the stamp.
  utimesSync(stamp, startedAt, startedAt);
  return 0;
}

/** The newest change below a path; a folder counts too, because it changes when a file is removed. */
function newestMs(path) {
  if (!existsSync(path)) return 0;
  const own = mtimeMs(path);
  if (!statSync(path).isDirectory()) return own;
  return Math.max(own, ...readdirSync(path).map((entry) => newestMs(join(path, entry))));
}

function mtimeMs(path) {
  return statSync(path).mtimeMs;
}

/** @param printed gets what npm prints; unless given, the terminal does */
function npm(args, printed) {
  const cli = process.env.npm_execpath;
  return cli?.endsWith('.js')
    ? run(process.execPath, [cli, ...args], { printed })
    : run('npm', args, { printed });
}

/**
 * Runs a program to its end and returns its exit code. It gets a process group of its own: a Ctrl-C reaches
 * it through this process alone, exactly once, and what it forgot to end is ended after it.
 */
function run(file, args, { printed, env = process.env } = {}) {
  return new Promise((resolve) => {
    const output = printed ? 'pipe' : 'inherit';
    const stdio = ['inherit', output, output];
    const child = spawn(file, args, { cwd: repo, env, stdio, detached: true });
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => printed.push(chunk));
    const lastMs = new Map();
    const passOn = (name) => {
      const isRepeated = Date.now() - (lastMs.get(name) ?? 0) < REPEATED_SIGNAL_MS;
      lastMs.set(name, Date.now());
      if (!isRepeated) signal(-child.pid, name);
    };
    for (const name of SIGNALS) process.on(name, passOn);
    const finish = (exitCode) => {
      for (const name of SIGNALS) process.off(name, passOn);
      resolve(exitCode);
    };
    child.once('error', (error) => {
      console.error(`${file} could not be started: ${error.message}`);
      finish(1);
    });
    child.once('exit', () => signal(-child.pid, 'SIGTERM'));
    // Not `exit`: what it printed last is there with `close`.
    child.once('close', (code, endedBy) => {
      // Ended by a signal: the code that a shell would give.
      finish(code ?? 128 + constants.signals[endedBy]);
    });
  });
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // Another user's.
    return error.code === 'EPERM';
  }
}

/** @param pid of a process, or of a group with a minus before it */
function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}
