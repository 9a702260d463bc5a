/** One child process from its start to its end: its log, when it is ready, how it stops, how it crashed. */

import { spawn, spawnSync } from 'node:child_process';
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { settlesWithin, waitUntil } from './wait.ts';

/** How much of a log a report quotes: enough for a stack trace, not for a flood. */
const QUOTED_LINES = 15;
const QUOTED_BYTES = 8_192;

/** The kernel ends a killed process within milliseconds; a process stuck in I/O may take longer. */
const KILL_TIMEOUT_MS = 15_000;

export type ProcessOptions = {
  name: string;
  command: string;
  args: readonly string[];
  cwd?: string;
  env?: NodeJS.ProcessEnv;
  logFile: string;
  isReady: () => Promise<boolean>;
  readyTimeoutMs: number;
  stopTimeoutMs: number;
  /** A command that ends what may outlive the process, such as a container whose client was killed. */
  lastly?: readonly string[];
  /** Called once if the process ends on its own after it was ready. */
  onCrash: (crash: CrashError) => void;
};

/** A process that ended on its own; the message quotes the end of its log. */
export class CrashError extends Error {
  /** As in "exit code 3" or "killed by SIGKILL". */
  readonly end: string;

  constructor(options: ProcessOptions, end: string) {
    super(`${options.name} stopped unexpectedly (${end}). ${quoteLog(options.logFile)}`);
    this.end = end;
  }
}

export type RunningProcess = {
  name: string;
  pid: number;
  hasEnded(): boolean;
  /** Rejects when the process ends before it is ready, or is not ready in time. */
  ready: Promise<void>;
  /** SIGTERM, then SIGKILL after the bound. */
  stop(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGKILL, for the moment in which this process exits and nothing asynchronous runs any more. */
  killNow(): void;
};

/**
 * Starts a process in its own process group: a Ctrl-C in the terminal then reaches only this process, which
 * decides in what order the others end.
 */
export function startProcess(options: ProcessOptions): RunningProcess {
  const log = openSync(options.logFile, 'w');
  const child = spawn(options.command, options.args, {
    detached: true,
    stdio: ['ignore', log, log],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  closeSync(log);

  const life = { isReady: false, isStopping: false, end: undefined as string | undefined };
  const waiting = new AbortController();
  const exited = new Promise<void>((resolve) => {
    const finish = (end: string): void => {
      if (life.end !== undefined) return;
      life.end = end;
      resolve();
      if (life.isStopping) return waiting.abort(new Error(`${options.name} was stopped`));
      const crash = new CrashError(options, end);
      waiting.abort(crash);
      if (life.isReady) options.onCrash(crash);
    };
    child.once('error', (error) => finish(error.message));
    child.once('exit', (code, signal) =>
      finish(signal === null ? `exit code ${code}` : `killed by ${signal}`),
    );
  });

  const pid = child.pid;
  if (pid === undefined) {
    // Spawning failed; the reason arrives with the `error` event a moment later.
    const failed = exited.then(() => Promise.reject(new CrashError(options, life.end ?? 'not started')));
    return {
      name: options.name,
      pid: 0,
      hasEnded: () => true,
      ready: failed,
      stop: async () => {},
      kill: async () => {},
      killNow: () => {},
    };
  }

  const becomeReady = async (): Promise<void> => {
    try {
      await waitUntil({
        what: `${options.name} to be ready`,
        timeoutMs: options.readyTimeoutMs,
        check: options.isReady,
        signal: waiting.signal,
      });
    } catch (cause) {
      waiting.signal.throwIfAborted();
      throw new Error(`${options.name} did not become ready. ${quoteLog(options.logFile)}`, { cause });
    }
    // Something else may have answered at the address of a process that has just ended.
    waiting.signal.throwIfAborted();
    life.isReady = true;
  };

  const kill = async (): Promise<void> => {
    life.isStopping = true;
    if (life.end === undefined) {
      signalGroup(pid, 'SIGKILL');
      if (!(await settlesWithin(exited, KILL_TIMEOUT_MS))) {
        throw new Error(`${options.name} (process ${pid}) does not end, not even when killed`);
      }
    }
    runLastly(options.lastly);
  };

  const stop = async (): Promise<void> => {
    life.isStopping = true;
    if (life.end === undefined) {
      signalGroup(pid, 'SIGTERM');
      // A frozen process receives SIGTERM only when it is thawed.
      signalGroup(pid, 'SIGCONT');
      await settlesWithin(exited, options.stopTimeoutMs);
    }
    return kill();
  };
  let stopped: Promise<void> | undefined;

  return {
    name: options.name,
    pid,
    hasEnded: () => life.end !== undefined,
    ready: becomeReady(),
    stop: () => (stopped ??= stop()),
    kill,
    killNow: () => {
      life.isStopping = true;
      if (life.end !== undefined) return;
      signalGroup(pid, 'SIGKILL');
      runLastly(options.lastly);
    },
  };
}

/** Signals the process group; false when it is gone already. */
export function signalGroup(pid: number, signal: NodeJS.Signals): boolean {
  try {
    return process.kill(-pid, signal);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ESRCH') return false;
    throw error;
  }
}

function runLastly(command: readonly string[] | undefined): void {
  const [file, ...args] = command ?? [];
  // Its failure means that there was nothing left to end.
  if (file !== undefined) spawnSync(file, args, { stdio: 'ignore', timeout: 15_000 });
}

/** For a process that did not do as it should. */
function quoteLog(file: string): string {
  const quoted = lastLines(file);
  return quoted === '' ? `Its log ${file} is empty.` : `The end of ${file}:\n${quoted}`;
}

function lastLines(file: string): string {
  const fd = openSync(file, 'r');
  try {
    const size = fstatSync(fd).size;
    const buffer = Buffer.alloc(Math.min(size, QUOTED_BYTES));
    readSync(fd, buffer, 0, buffer.length, size - buffer.length);
    return buffer.toString().trimEnd().split('\n').slice(-QUOTED_LINES).join('\n');
  } finally {
    closeSync(fd);
  }
}
