/** How `npm run dev` gathers changed files into rounds of building and restarting. */

import { EventEmitter, once } from 'node:events';
import { expect, test } from 'vitest';
import { createRounds } from '../../stack/dev.ts';

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
