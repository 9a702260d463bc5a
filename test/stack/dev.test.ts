/** How `npm run dev` notices changed files and gathers them into rounds of building and restarting. */

import { EventEmitter, once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createRounds, pollSources } from '../../stack/dev.ts';
import { waitUntil } from '../../stack/processes/wait.ts';
import { withDataDir } from './data-dir.ts';

/** Rounds that end when the test says so. */
function openRounds() {
  const events = new EventEmitter();
  const rounds: string[][] = [];
  const onChange = createRounds({
    settle: async () => {},
    round: async (files) => {
      rounds.push(files);
      const ended = once(events, 'end');
      events.emit('begun');
      await ended;
    },
  });
  return {
    rounds,
    onChange,
    begun: () => once(events, 'begun'),
    end: () => events.emit('end'),
  };
}

test('files that change together are one round, each named once', async () => {
  const { rounds, onChange, begun, end } = openRounds();
  const first = begun();
  for (const file of ['a.ts', 'b.ts', 'a.ts']) onChange(file);
  await first;
  expect(rounds).toEqual([['a.ts', 'b.ts']]);
  end();
});

test('what changes while a round runs is one further round after it', async () => {
  const { rounds, onChange, begun, end } = openRounds();
  const first = begun();
  onChange('a.ts');
  await first;
  for (const file of ['a.ts', 'b.lua']) onChange(file);
  expect(rounds).toEqual([['a.ts']]);
  const second = begun();
  end();
  await second;
  expect(rounds).toEqual([['a.ts'], ['a.ts', 'b.lua']]);
  end();
});

test('a change after the last round begins a new one', async () => {
  const { rounds, onChange, begun, end } = openRounds();
  for (const file of ['a.ts', 'b.ts']) {
    const next = begun();
    onChange(file);
    await next;
    end();
  }
  expect(rounds).toEqual([['a.ts'], ['b.ts']]);
});

type Polled = {
  dir: string;
  /** Each file with its text at the time, because one save that is reported twice is not two saves. */
  changes: { file: string; text: string | undefined }[];
  unreadable: unknown[];
};

/** The folder `src` with the one source file `deep/a.ts`, or a folder that is not there, polled often. */
async function withPolled(
  { at }: { at: 'src' | 'later' },
  use: (polled: Polled) => Promise<void>,
): Promise<void> {
  await withDataDir(async (parent) => {
    await mkdir(join(parent, 'src', 'deep'), { recursive: true });
    await writeFile(join(parent, 'src', 'deep', 'a.ts'), 'first');
    const dir = join(parent, at);
    const changes: Polled['changes'] = [];
    const unreadable: unknown[] = [];
    const stop = new AbortController();
    pollSources({
      dir,
      intervalMs: 5,
      signal: stop.signal,
      onChange: (file) => {
        const path = join(dir, file);
        changes.push({ file, text: existsSync(path) ? readFileSync(path, 'utf8') : undefined });
      },
      onUnreadable: (error) => unreadable.push(error),
    });
    try {
      await use({ dir, changes, unreadable });
    } finally {
      stop.abort();
    }
  });
}

async function until(what: string, check: () => boolean): Promise<void> {
  await waitUntil({ what, timeoutMs: 60_000, check });
}

/** As vim, JetBrains, git checkout and sed -i save. */
async function saveByRename(file: string, text: string): Promise<void> {
  await writeFile(`${file}.new`, text);
  await rename(`${file}.new`, file);
}

test('each save of a file by renaming is noticed, also after the first', async () => {
  await withPolled({ at: 'src' }, async ({ dir, changes }) => {
    const file = join('deep', 'a.ts');
    const texts = ['second', 'third', 'fourth', 'fifth'];
    for (const text of texts) {
      await saveByRename(join(dir, file), text);
      await until(`the ${text} version`, () => changes.at(-1)?.text === text);
    }
    expect(changes).toEqual(texts.map((text) => ({ file, text })));
  });
});

test('sources that come and go with a new folder are noticed, and backups are not', async () => {
  await withPolled({ at: 'src' }, async ({ dir, changes }) => {
    await mkdir(join(dir, 'new'));
    await writeFile(join(dir, 'new', 'b.ts~'), 'a backup');
    // Renamed, because a poll between creating and writing would see two changes.
    await saveByRename(join(dir, 'new', 'b.lua'), 'added');
    await until('the added file', () => changes.length === 1);
    await rm(join(dir, 'new'), { recursive: true });
    await until('the removed file', () => changes.length === 2);
    const file = join('new', 'b.lua');
    expect(changes).toEqual([
      { file, text: 'added' },
      { file, text: undefined },
    ]);
  });
});

test('a folder that is missing is reported once, and noticed when it is there', async () => {
  await withPolled({ at: 'later' }, async ({ dir, changes, unreadable }) => {
    await mkdir(`${dir}.new`);
    await writeFile(join(`${dir}.new`, 'c.html'), 'there');
    await rename(`${dir}.new`, dir);
    await until('the file', () => changes.length > 0);
    await saveByRename(join(dir, 'c.html'), 'saved');
    await until('the save', () => changes.length > 1);
    expect(changes).toEqual([
      { file: 'c.html', text: 'there' },
      { file: 'c.html', text: 'saved' },
    ]);
    expect(unreadable).toEqual([expect.objectContaining({ code: 'ENOENT' })]);
  });
});
