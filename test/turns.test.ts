/** Turns by key: who comes next, and that work is bounded. */

import { expect, test } from 'vitest';
import { createTurns, limitInTurns, takeTurns } from '../src/turns.ts';

test('keys take turns, and what comes first of a key is taken first', () => {
  const turns = createTurns<string>();
  for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2']) turns.add(item.slice(0, 1), item);
  const taken = [turns.take(), turns.take()];
  turns.add('b', 'b2');
  for (let item = turns.take(); item !== undefined; item = turns.take()) taken.push(item);
  expect(taken).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'c2', 'a3']);
});

test('what is over is taken from the front of each key, and the others keep their turns', () => {
  const turns = createTurns<number>();
  for (const [key, item] of [
    ['a', 1],
    ['b', 1],
    ['a', 5],
    ['c', 5],
    ['a', 1],
  ] as const)
    turns.add(key, item);
  expect(turns.takeWhile((item) => item < 3)).toEqual([1, 1]);
  expect(turns.firsts()).toEqual([5, 5]);
  expect([turns.take(), turns.take(), turns.take(), turns.take()]).toEqual([5, 5, 1, undefined]);
});

/** Seeks among these keys, as a query does. */
const seekIn = (keys: readonly string[]) => (after: string) =>
  Promise.resolve(keys.find((key) => key > after) ?? keys[0]);

async function listTurns(...args: Parameters<typeof takeTurns>): Promise<string[]> {
  const turns: string[] = [];
  for await (const turn of takeTurns(...args)) turns.push(turn);
  return turns;
}

test.each([
  { after: '', turns: ['a', 'b', 'c'] },
  { after: 'b', turns: ['c', 'a', 'b'] },
  { after: 'bb', turns: ['c', 'a', 'b'] },
  { after: 'c', turns: ['a', 'b', 'c'] },
])('after the turn of "$after" each key has one turn', async ({ after, turns }) => {
  expect(await listTurns(seekIn(['a', 'b', 'c']), after)).toEqual(turns);
});

test('no key has a second turn when the one that began the pass is gone', async () => {
  const keys = ['a', 'b', 'c'];
  const findNext = (after: string) => {
    if (after === 'b') keys.splice(1, 1);
    return seekIn(keys)(after);
  };
  expect(await listTurns(findNext, 'a')).toEqual(['b', 'c', 'a']);
});

test('where no key has work, nothing has a turn', async () => {
  expect(await listTurns(seekIn([]), 'a')).toEqual([]);
});

/** Work that goes on until it is ended. */
function openWork(atOnce: number) {
  const limit = limitInTurns(atOnce);
  const begun: string[] = [];
  const ends = new Map<string, (error?: Error) => void>();
  return {
    begun,
    run: (key: string, name: string): Promise<string> =>
      limit(key, () => {
        begun.push(name);
        return new Promise((resolve, reject) => {
          ends.set(name, (error) => (error ? reject(error) : resolve(name)));
        });
      }),
    async end(name: string, error?: Error): Promise<void> {
      ends.get(name)?.(error);
      await new Promise(setImmediate);
    },
  };
}

test('work beyond the bound begins in turns by key, as soon as other work ends', async () => {
  const { run, end, begun } = openWork(2);
  const all = ['a1', 'a2', 'a3', 'a4', 'b1'].map((name) => run(name.slice(0, 1), name));
  expect(begun).toEqual(['a1', 'a2']);
  await end('a2');
  await end('a1');
  expect(begun).toEqual(['a1', 'a2', 'a3', 'b1']);
  for (const name of ['a3', 'b1', 'a4']) await end(name);
  expect(await Promise.all(all)).toEqual(['a1', 'a2', 'a3', 'a4', 'b1']);
});

test('work that fails gives its place to the next', async () => {
  const { run, end, begun } = openWork(1);
  const failing = run('a', 'a1');
  const next = run('b', 'b1');
  await Promise.all([expect(failing).rejects.toThrow('failed'), end('a1', new Error('failed'))]);
  expect(begun).toEqual(['a1', 'b1']);
  await end('b1');
  expect(await next).toBe('b1');
  const last = run('a', 'a2');
  await end('a2');
  expect(await last).toBe('a2');
});
