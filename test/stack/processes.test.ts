/** The processes of a stack: when they count as ready, how they end, and what a killed stack leaves. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { processListFile, stopLeftovers } from '../../stack/processes/leftovers.ts';
import { startProcess } from '../../stack/processes/process.ts';
import { createProcesses } from '../../stack/processes/processes.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import { isAlive, withDataDir } from './data-dir.ts';
import { FOREVER, logOf, pidOf, program } from './program.ts';

test('a crash is reported with the end of the log, and a stop is not a crash', async () => {
  await withDataDir(async (dataDir) => {
    const crashes: Error[] = [];
    const processes = createProcesses({ dataDir, onCrash: (crash) => crashes.push(crash) });
    await processes.start(program(processes, 'steady', FOREVER));
    await processes.start(program(processes, 'fragile', FOREVER));
    process.kill(await pidOf(processes, 'fragile'), 'SIGKILL');
    await waitUntil({ what: 'the crash report', timeoutMs: 60_000, check: () => crashes.length > 0 });
    await processes.stopAll();
    expect(crashes.map((crash) => crash.message)).toEqual([
      expect.stringMatching(
        /^fragile stopped unexpectedly \(killed by SIGKILL\)\. The end of [^]*ready \d+$/,
      ),
    ]);
  });
});

test('a process that ends before it is ready fails the start with the end of its log', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    const start = processes.start({
      ...program(processes, 'hopeless', `console.error('no such disk'); process.exit(3)`),
      isReady: async () => false,
    });
    await expect(start).rejects.toThrow(/hopeless stopped unexpectedly \(exit code 3\)[^]*no such disk/);
    await processes.stopAll();
  });
});

test('a process that is not ready in time fails the start with the end of its log', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    const start = processes.start({
      ...program(processes, 'waiting', FOREVER),
      async isReady() {
        const hasSaidSo = async () => (await logOf(processes, 'waiting')).includes('ready');
        await waitUntil({ what: 'its line', timeoutMs: 60_000, check: hasSaidSo });
        return false;
      },
      readyTimeoutMs: 200,
    });
    await expect(start).rejects.toThrow(/^waiting did not become ready\. The end of [^]*ready \d+$/);
    await processes.stopAll();
  });
});

test('a program that does not exist fails the start', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    const absent = { ...program(processes, 'absent', FOREVER), command: join(dataDir, 'nowhere') };
    await expect(processes.start(absent)).rejects.toThrow(/absent stopped unexpectedly \(spawn .*ENOENT\)/);
    await processes.stopAll();
  });
});

test('a process that ignores SIGTERM is killed after the bound', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    await processes.start(program(processes, 'stubborn', `process.on('SIGTERM', () => {}); ${FOREVER}`));
    const pid = await pidOf(processes, 'stubborn');
    await processes.stopAll();
    expect(isAlive(pid)).toBe(false);
  });
});

test('one that was killed or stopped is no crash, and can be started again under its name', async () => {
  await withDataDir(async (dataDir) => {
    const crashes: Error[] = [];
    const processes = createProcesses({ dataDir, onCrash: (crash) => crashes.push(crash) });
    const ends = [() => processes.kill('phoenix'), () => processes.stop('phoenix')];
    for (const end of ends) {
      await processes.start(program(processes, 'phoenix', FOREVER));
      const pid = await pidOf(processes, 'phoenix');
      await end();
      expect(isAlive(pid)).toBe(false);
    }
    await expect(processes.kill('phoenix')).rejects.toThrow('phoenix does not run');
    await processes.stopAll();
    expect(crashes).toEqual([]);
  });
});

test('a frozen process does nothing until it is thawed, and can be stopped while frozen', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    await processes.start(
      program(processes, 'ticker', `process.on('SIGUSR2', () => console.log('heard')); ${FOREVER}`),
    );
    const pid = await pidOf(processes, 'ticker');
    processes.freeze('ticker');
    process.kill(pid, 'SIGUSR2');
    expect(await logOf(processes, 'ticker')).not.toContain('heard');
    processes.thaw('ticker');
    const heard = async () => (await logOf(processes, 'ticker')).includes('heard');
    await waitUntil({ what: 'the thawed process to hear the signal', timeoutMs: 60_000, check: heard });
    processes.freeze('ticker');
    await processes.stopAll();
    expect(isAlive(pid)).toBe(false);
  });
});

test('one that is restarted runs anew with the same options, whether it ran or not', async () => {
  await withDataDir(async (dataDir) => {
    const crashes: Error[] = [];
    const processes = createProcesses({ dataDir, onCrash: (crash) => crashes.push(crash) });
    await processes.start(program(processes, 'server', FOREVER));
    const first = processes.pid('server');
    await processes.restart('server');
    const second = await pidOf(processes, 'server');
    expect([isAlive(first), isAlive(second)]).toEqual([false, true]);
    process.kill(second, 'SIGKILL');
    await waitUntil({ what: 'the crash report', timeoutMs: 60_000, check: () => crashes.length > 0 });
    await processes.restart('server');
    expect(isAlive(await pidOf(processes, 'server'))).toBe(true);
    expect(processes.names()).toEqual(['server']);
    await processes.stopAll();
    expect(crashes).toHaveLength(1);
  });
});

test('a data folder belongs to one stack at a time', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    expect(() => createProcesses({ dataDir, onCrash: () => {} })).toThrow(/another stack/);
    await processes.stopAll();
    await createProcesses({ dataDir, onCrash: () => {} }).stopAll();
  });
});

test('what a killed start left behind is stopped, and a stranger with a noted pid is not', async () => {
  await withDataDir(async (dataDir) => {
    const spawn = (name: string, marker: string) =>
      startProcess({
        name,
        command: process.execPath,
        args: ['--eval', FOREVER, marker],
        logFile: join(dataDir, `${name}.log`),
        isReady: async () => true,
        readyTimeoutMs: 60_000,
        stopTimeoutMs: 60_000,
        onCrash: () => {},
      });
    const [left, stranger] = [spawn('left', dataDir), spawn('stranger', 'something else')];
    await Promise.all([left.ready, stranger.ready]);
    const processes = [left, stranger].map(({ name, pid }) => ({ name, pid, marker: dataDir }));
    const list = { owner: { pid: left.pid, marker: 'a start that is gone' }, processes };
    await writeFile(processListFile(dataDir), JSON.stringify(list));
    const said: string[] = [];
    await stopLeftovers({ dataDir, progress: (line) => said.push(line) });
    expect(said).toEqual([`Stopping left (process ${left.pid}), left behind by a start that was killed`]);
    await waitUntil({ what: 'the leftover to end', timeoutMs: 60_000, check: () => !isAlive(left.pid) });
    expect(isAlive(stranger.pid)).toBe(true);
    await stranger.stop();
  });
});

test('a start beside a living one is refused and leaves it alone', async () => {
  await withDataDir(async (dataDir) => {
    const processes = createProcesses({ dataDir, onCrash: () => {} });
    await processes.start(program(processes, 'owner', FOREVER));
    const owner = { pid: await pidOf(processes, 'owner'), marker: dataDir };
    await writeFile(processListFile(dataDir), JSON.stringify({ owner, processes: [] }));
    await expect(stopLeftovers({ dataDir, progress: () => {} })).rejects.toThrow(
      `Holdfast is running already in this folder (process ${owner.pid})`,
    );
    expect(isAlive(owner.pid)).toBe(true);
    await processes.stopAll();
  });
});
