/** The supervisor of `npm start`, with small real processes that are killed. */

import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { processListFile } from '../../stack/processes/leftovers.ts';
import { createProcesses, type Processes } from '../../stack/processes/processes.ts';
import { restartOnCrash } from '../../stack/processes/supervisor.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import { isAlive, withDataDir } from './data-dir.ts';
import { FOREVER, logOf, pidOf, program } from './program.ts';

type Supervised = { processes: Processes; said: string[]; stayedDown: Error[] };

async function withSupervised(
  pausesMs: readonly number[],
  use: (supervised: Supervised) => Promise<void>,
): Promise<void> {
  await withDataDir(async (dataDir) => {
    const said: string[] = [];
    const stayedDown: Error[] = [];
    const onCrash = restartOnCrash({
      say: (line) => said.push(line),
      onStaysDown: (reason) => stayedDown.push(reason),
      pausesMs,
    });
    const processes = createProcesses({ dataDir, onCrash });
    try {
      await use({ processes, said, stayedDown });
    } finally {
      await processes.stopAll();
    }
  });
}

async function until(what: string, check: () => Promise<boolean> | boolean): Promise<void> {
  await waitUntil({ what, timeoutMs: 60_000, check });
}

async function listedPids(processes: Processes): Promise<number[]> {
  const list: { processes: { pid: number }[] } = JSON.parse(
    await readFile(processListFile(processes.dataDir), 'utf8'),
  );
  return list.processes.map(({ pid }) => pid);
}

test('one that is killed is started again, with one line, and is on the list by its new pid', async () => {
  await withSupervised([0], async ({ processes, said, stayedDown }) => {
    await processes.start(program(processes, 'first', FOREVER));
    await processes.start(program(processes, 'second', FOREVER));
    const [killed, other] = [processes.pid('first'), processes.pid('second')];
    process.kill(killed, 'SIGKILL');
    await until('the restart', () => said.length > 0);
    const pid = await pidOf(processes, 'first');
    expect(pid).not.toBe(killed);
    expect(isAlive(pid)).toBe(true);
    expect(said).toEqual([
      expect.stringMatching(
        new RegExp(`^first ended \\(killed by SIGKILL\\); started again in \\d+\\.\\d s as process ${pid}$`),
      ),
    ]);
    expect(await listedPids(processes)).toEqual([pid, other]);
    expect(await logOf(processes, 'first.previous')).toContain(`ready ${killed}`);
    expect(stayedDown).toEqual([]);
  });
});

test('one that dies more often than its restarts allow stays down, with the end of its log', async () => {
  await withSupervised([0, 0], async ({ processes, said, stayedDown }) => {
    await processes.start(program(processes, 'frail', FOREVER));
    for (const restarts of [1, 2]) {
      process.kill(processes.pid('frail'), 'SIGKILL');
      await until(`restart ${restarts}`, () => said.length === restarts);
    }
    process.kill(processes.pid('frail'), 'SIGKILL');
    await until('it to stay down', () => stayedDown.length > 0);
    expect(stayedDown).toEqual([
      expect.objectContaining({
        message: 'frail was started again 2 times within a minute and does not stay up',
        cause: expect.objectContaining({
          message: expect.stringMatching(/frail stopped unexpectedly[^]*ready/),
        }),
      }),
    ]);
    expect(said).toHaveLength(2);
    expect(await listedPids(processes)).toEqual([]);
  });
});

test('one that does not become ready again stays down after as many tries', async () => {
  await withSupervised([0, 0], async ({ processes, said, stayedDown }) => {
    const once = `
      const { existsSync, writeFileSync } = require('node:fs');
      const mark = process.argv[1] + '/started-once';
      if (existsSync(mark)) { console.error('no such disk'); process.exit(3); }
      writeFileSync(mark, ''); ${FOREVER}`;
    await processes.start(program(processes, 'once', once));
    process.kill(processes.pid('once'), 'SIGKILL');
    await until('it to stay down', () => stayedDown.length > 0);
    expect(stayedDown[0]?.cause).toMatchObject({
      message: expect.stringMatching(/once stopped unexpectedly \(exit code 3\)[^]*no such disk/),
    });
    expect(said).toEqual([]);
  });
});

test('one that never was ready fails its start and is not started again', async () => {
  await withSupervised([0], async ({ processes, said, stayedDown }) => {
    const start = processes.start({
      ...program(processes, 'hopeless', 'process.exit(3)'),
      isReady: async () => false,
    });
    await expect(start).rejects.toThrow(/hopeless stopped unexpectedly \(exit code 3\)/);
    expect([...said, ...stayedDown, ...processes.names()]).toEqual([]);
  });
});

test('a stop during a restart ends the process that is being started', async () => {
  await withSupervised([0, 0], async ({ processes, said, stayedDown }) => {
    const slow = `
      const { existsSync, writeFileSync } = require('node:fs');
      const mark = process.argv[1] + '/started-once';
      if (existsSync(mark)) { console.log('alive', process.pid); ${FOREVER}; return; }
      writeFileSync(mark, ''); ${FOREVER}`;
    const options = program(processes, 'slow', `(() => { ${slow} })()`);
    const isReady = async (): Promise<boolean> => (await logOf(processes, 'slow')).startsWith('ready');
    await processes.start({ ...options, isReady });
    process.kill(processes.pid('slow'), 'SIGKILL');
    const alive = async (): Promise<string | undefined> =>
      /alive (\d+)/.exec(await logOf(processes, 'slow'))?.[1];
    await until('the second life', async () => (await alive()) !== undefined);
    const pid = Number(await alive());
    await processes.stopAll();
    expect(isAlive(pid)).toBe(false);
    expect([...said, ...stayedDown]).toEqual([]);
  });
});

test('a stop during the pause before a restart starts nothing', async () => {
  await withSupervised([60_000], async ({ processes, said, stayedDown }) => {
    await processes.start(program(processes, 'waiting', FOREVER));
    process.kill(processes.pid('waiting'), 'SIGKILL');
    await until('the end to be noticed', async () => (await listedPids(processes)).length === 0);
    await processes.stopAll();
    await expect(processes.restart('waiting')).rejects.toThrow('the stack is being stopped');
    expect([...said, ...stayedDown]).toEqual([]);
  });
});
