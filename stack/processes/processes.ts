/**
 * The processes that one stack has started. The stack alone ends them; it writes down which they are, so that
 * the next start can end them if this one is killed.
 */

import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { processListFile, type ProcessList } from './leftovers.ts';
import {
  signalGroup,
  startProcess,
  type CrashError,
  type ProcessOptions,
  type RunningProcess,
} from './process.ts';

export type StartOptions = Omit<ProcessOptions, 'logFile' | 'onCrash'> & {
  /** A part of the command line that no other process has: this data folder, or a script's full path. */
  marker: string;
};

/** Called when a process that was ready has ended on its own. */
export type CrashHandler = (crash: CrashError, name: string, processes: Processes) => void;

/** All processes that one stack has started, until the stack ends them. */
export type Processes = {
  dataDir: string;
  /** Resolves when it is ready; when it does not get there, it is stopped before the promise rejects. */
  start(options: StartOptions): Promise<void>;
  /**
   * Stops the process of this name if it still runs, and starts it again as it was first started: with the
   * same port and the same data. Rejects as `start` does; it can then be restarted once more.
   */
  restart(name: string): Promise<void>;
  /** The full path of the log of a process of this name. */
  logFile(name: string): string;
  /** Of the running process of this name. */
  pid(name: string): number;
  /** The names of those that were started and not stopped, in that order. */
  names(): string[];
  /** SIGTERM to the one of this name, and SIGKILL if it does not end; it can be started again. */
  stop(name: string): Promise<void>;
  /** SIGKILL to the one of this name, and waits until it is gone; it can be started again. */
  kill(name: string): Promise<void>;
  /** SIGSTOP and SIGCONT: it neither works nor ends. */
  freeze(name: string): void;
  thaw(name: string): void;
  /** Stops all, the latest first, and refuses further starts. */
  stopAll(): Promise<void>;
  /** Kills all at once, for the moment in which this process exits. */
  killAllNow(): void;
  /** Aborted as soon as all are being stopped. */
  stopping: AbortSignal;
};

type Entry = {
  options: StartOptions;
  process: RunningProcess;
  /** Settles with the latest restart: two restarts of one process follow each other. */
  restarted: Promise<void>;
};

/** Claims the data folder for this process; throws when another stack has claimed it. */
export function createProcesses(options: { dataDir: string; onCrash: CrashHandler }): Processes {
  const { dataDir } = options;
  const logDir = join(dataDir, 'logs');
  /** In the order of their first starts, which is the reverse of the order in which they are stopped. */
  const entries: Entry[] = [];
  const stopping = new AbortController();
  const isStopping = (): boolean => stopping.signal.aborted;
  mkdirSync(logDir, { recursive: true });
  claim(dataDir);

  const logFile = (name: string): string => join(logDir, `${name}.log`);

  /** Keeps the list for the next start true: it names what runs. */
  const writeDown = (): void => {
    const running = entries.filter((entry) => !entry.process.hasEnded());
    const processes = running.map(({ process: { name, pid }, options: { marker } }) => ({
      name,
      pid,
      marker,
    }));
    writeList(dataDir, { owner: thisProcess(), processes });
  };

  const forget = (gone: Entry): void => {
    entries.splice(0, entries.length, ...entries.filter((entry) => entry !== gone));
    writeDown();
  };

  const launch = (startOptions: StartOptions): RunningProcess => {
    const { name } = startOptions;
    if (isStopping()) throw new Error(`${name} is not started: the stack is being stopped`);
    const onCrash = (crash: CrashError): void => {
      if (!isStopping()) writeDown();
      options.onCrash(crash, name, processes);
    };
    return startProcess({ ...startOptions, logFile: logFile(name), onCrash });
  };

  const untilReady = async (started: RunningProcess): Promise<void> => {
    writeDown();
    try {
      await started.ready;
    } catch (error) {
      await started.stop();
      if (!isStopping()) writeDown();
      throw error;
    }
  };

  const start = async (startOptions: StartOptions): Promise<void> => {
    const entry: Entry = {
      options: startOptions,
      process: launch(startOptions),
      restarted: Promise.resolve(),
    };
    entries.push(entry);
    try {
      await untilReady(entry.process);
    } catch (error) {
      if (!isStopping()) forget(entry);
      throw error;
    }
  };

  const startAgain = async (entry: Entry): Promise<void> => {
    const { name } = entry.options;
    // For one that has ended already, this ends what may outlive it, such as a container.
    await entry.process.stop();
    // The old log may say why it ended, and each life writes a log of its own.
    if (existsSync(logFile(name))) renameSync(logFile(name), logFile(`${name}.previous`));
    entry.process = launch(entry.options);
    await untilReady(entry.process);
  };

  const restart = (name: string): Promise<void> => {
    const entry = find(name);
    entry.restarted = entry.restarted.then(
      () => startAgain(entry),
      () => startAgain(entry),
    );
    return entry.restarted;
  };

  const find = (name: string): Entry => {
    const entry = entries.findLast(({ process: started }) => started.name === name);
    if (entry === undefined) throw new Error(`${name} does not run`);
    return entry;
  };

  const endOne = async (name: string, end: (one: RunningProcess) => Promise<void>): Promise<void> => {
    const entry = find(name);
    await end(entry.process);
    if (!isStopping()) forget(entry);
  };

  const stopAll = async (): Promise<void> => {
    stopping.abort();
    const failures: unknown[] = [];
    for (const entry of entries.toReversed()) {
      // One that resists must not keep the others alive.
      await entry.process.stop().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'));
    rmSync(processListFile(dataDir), { force: true });
  };

  const killAllNow = (): void => {
    stopping.abort();
    for (const entry of entries) entry.process.killNow();
    rmSync(processListFile(dataDir), { force: true });
  };

  let stopped: Promise<void> | undefined;
  const processes: Processes = {
    dataDir,
    start,
    restart,
    logFile,
    pid: (name) => find(name).process.pid,
    names: () => entries.map(({ process: started }) => started.name),
    stop: (name) => endOne(name, (one) => one.stop()),
    kill: (name) => endOne(name, (one) => one.kill()),
    freeze: (name) => void signalGroup(find(name).process.pid, 'SIGSTOP'),
    thaw: (name) => void signalGroup(find(name).process.pid, 'SIGCONT'),
    stopAll: () => (stopped ??= stopAll()),
    killAllNow,
    stopping: stopping.signal,
  };
  return processes;
}

function thisProcess(): ProcessList['owner'] {
  return { pid: process.pid, marker: process.argv[1] ?? process.execPath };
}

/** Creating the list is the claim: of two stacks that start at once on one folder, only one can create it. */
function claim(dataDir: string): void {
  try {
    const list: ProcessList = { owner: thisProcess(), processes: [] };
    writeFileSync(processListFile(dataDir), JSON.stringify(list), { flag: 'wx' });
  } catch (cause) {
    throw new Error(`another stack has just started on ${dataDir}; stop it first`, { cause });
  }
}

/** Written beside and renamed, so that a death in between never leaves half a list. */
function writeList(dataDir: string, list: ProcessList): void {
  const file = processListFile(dataDir);
  writeFileSync(`${file}.new`, JSON.stringify(list, undefined, 2));
  renameSync(`${file}.new`, file);
}
