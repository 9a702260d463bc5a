import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { processListFile, type ProcessList } from './leftovers.ts';
import { signalGroup, startProcess, type ProcessOptions, type RunningProcess } from './process.ts';

export type StartOptions = Omit<ProcessOptions, 'logFile' | 'onCrash'> & {
  /** A part of the command line that belongs to no other process: this data folder, or a script's full path. */
  marker: string;
};

/** Everything that one stack has started. It alone ends it, and it leaves a list for the next start in case it cannot. */
export type Processes = {
  dataDir: string;
  /** Resolves when it is ready; when it does not get there, it is stopped before the promise rejects. */
  start(options: StartOptions): Promise<void>;
  /** The full path of the log of a process of this name. */
  logFile(name: string): string;
  /** Of the running process of this name. */
  pid(name: string): number;
  /** SIGTERM to the one of this name, and SIGKILL if it does not end; it can be started again. */
  stop(name: string): Promise<void>;
  /** SIGKILL to the one of this name, and waits until it is gone; it can be started again. */
  kill(name: string): Promise<void>;
  /** SIGSTOP and SIGCONT: it neither works nor ends. */
  freeze(name: string): void;
  thaw(name: string): void;
  /** Stops all, the latest first, and refuses further starts. */
  stopAll(): Promise<void>;
  /** Kills all at once, for the last moment of our own life. */
  killAllNow(): void;
};

/** Claims the data folder for this process; throws when another stack has claimed it. */
export function createProcesses(options: {
  dataDir: string;
  /** One that was ready has ended by itself. */
  onCrash: (crash: Error, name: string) => void;
}): Processes {
  const { dataDir } = options;
  const logDir = join(dataDir, 'logs');
  const running: { process: RunningProcess; marker: string }[] = [];
  let isStopping = false;
  mkdirSync(logDir, { recursive: true });
  claim(dataDir);

  const logFile = (name: string): string => join(logDir, `${name}.log`);

  const note = (): void => {
    const processes = running.map(({ process: { name, pid }, marker }) => ({ name, pid, marker }));
    writeList(dataDir, { owner: thisProcess(), processes });
  };

  const forget = (gone: RunningProcess): void => {
    running.splice(0, running.length, ...running.filter((entry) => entry.process !== gone));
    note();
  };

  const start = async (startOptions: StartOptions): Promise<void> => {
    if (isStopping) throw new Error(`${startOptions.name} is not started: the stack is being stopped`);
    const { marker, ...processOptions } = startOptions;
    const started = startProcess({
      ...processOptions,
      logFile: logFile(startOptions.name),
      onCrash: (crash) => options.onCrash(crash, startOptions.name),
    });
    running.push({ process: started, marker });
    note();
    try {
      await started.ready;
    } catch (error) {
      await started.stop();
      if (!isStopping) forget(started);
      throw error;
    }
  };

  const find = (name: string): RunningProcess => {
    const entry = running.findLast(({ process: started }) => started.name === name);
    if (entry === undefined) throw new Error(`${name} does not run`);
    return entry.process;
  };

  const endOne = async (name: string, end: (one: RunningProcess) => Promise<void>): Promise<void> => {
    const one = find(name);
    await end(one);
    if (!isStopping) forget(one);
  };

  const stopAll = async (): Promise<void> => {
    isStopping = true;
    const failures: unknown[] = [];
    for (const { process: started } of running.toReversed()) {
      // One that resists must not keep the others alive.
      await started.stop().catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw new AggregateError(failures, failures.map(String).join('\n'));
    rmSync(processListFile(dataDir), { force: true });
  };

  const killAllNow = (): void => {
    isStopping = true;
    for (const { process: started } of running) started.killNow();
    rmSync(processListFile(dataDir), { force: true });
  };

  let stopped: Promise<void> | undefined;
  return {
    dataDir,
    start,
    logFile,
    pid: (name) => find(name).pid,
    stop: (name) => endOne(name, (one) => one.stop()),
    kill: (name) => endOne(name, (one) => one.kill()),
    freeze: (name) => void signalGroup(find(name).pid, 'SIGSTOP'),
    thaw: (name) => void signalGroup(find(name).pid, 'SIGCONT'),
    stopAll: () => (stopped ??= stopAll()),
    killAllNow,
  };
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
