/**
 * Lua scripts are called by the names of their keys and arguments, checked by the compiler and at run time.
 */

import { beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { run, send, type Script } from '../../src/redis/script.ts';
import { openTestStores, type TestStores } from '../support/stores.ts';

/** Returns what it was called with. */
const echo: Script<'from' | 'to', 'name' | 'amount' | 'isGift', 'sku' | 'quantity', string[]> = {
  name: 'echo',
  lua: 'local all = {} for i, key in ipairs(KEYS) do all[i] = key end for i, arg in ipairs(ARGV) do all[#KEYS + i] = arg end return all',
  keys: ['from', 'to'],
  args: ['name', 'amount', 'isGift'],
  repeated: ['sku', 'quantity'],
  repeatedKeys: [],
  keyList: undefined,
  reply: z.array(z.string()),
};
/** The same without rows. */
const plain: Script<'from' | 'to', 'name' | 'amount' | 'isGift', never, string[]> = {
  ...echo,
  repeated: [],
  repeatedKeys: [],
};

/** The same with a list of keys. */
const keyed: typeof echo = { ...echo, name: 'echoKeyed', keyList: 'order' };

/** The same with keys of each row. */
const rowKeyed: Script<
  'from' | 'to',
  'name' | 'amount' | 'isGift',
  'sku' | 'quantity' | 'order' | 'idem',
  string[]
> = { ...echo, name: 'echoRowKeyed', repeatedKeys: ['order', 'idem'] };

const keys = { from: '{echo}:from', to: '{echo}:to' };
const args = { name: 'lamp', amount: 4_900, isGift: true };

let stores: TestStores;
beforeAll(async () => {
  stores = await openTestStores();
  stores.redis.defineCommand(echo.name, { lua: echo.lua, numberOfKeys: echo.keys.length });
  stores.redis.defineCommand(keyed.name, { lua: keyed.lua });
  stores.redis.defineCommand(rowKeyed.name, { lua: rowKeyed.lua });
});

describe('a call by name', () => {
  test('arrives in the order of the definition, in whichever order it names things', async () => {
    const reply = await run(stores.redis, echo, {
      repeated: [
        { quantity: 2, sku: 'lamp' },
        { quantity: 1, sku: 'mug' },
      ],
      args: { isGift: false, amount: 0, name: '' },
      keys: { to: keys.to, from: keys.from },
    });
    expect(reply).toEqual(['{echo}:from', '{echo}:to', '', '0', '0', 'lamp', '2', 'mug', '1']);
  });

  test('has a list of keys after the others', async () => {
    const reply = await run(stores.redis, keyed, {
      args,
      keys,
      repeated: [],
      keyList: ['{echo}:a', '{echo}:b'],
    });
    expect(reply).toEqual(['{echo}:from', '{echo}:to', '{echo}:a', '{echo}:b', 'lamp', '4900', '1']);
  });

  test('has the keys of its rows after the others, row by row', async () => {
    const reply = await run(stores.redis, rowKeyed, {
      args,
      keys,
      repeated: [
        { sku: 'lamp', idem: '{echo}:i', quantity: 2, order: '{echo}:o' },
        { idem: '{echo}:j', order: '{echo}:p', quantity: 1, sku: 'mug' },
      ],
    });
    const sentKeys = ['{echo}:from', '{echo}:to', '{echo}:o', '{echo}:i', '{echo}:p', '{echo}:j'];
    expect(reply).toEqual([...sentKeys, 'lamp', '4900', '1', 'lamp', '2', 'mug', '1']);
  });

  test('sends of a larger object only the keys and arguments that the script has', async () => {
    const more = { keys: { other: '{other}', ...keys }, args: { other: 1, ...args } };
    expect(await run(stores.redis, plain, more)).toEqual(['{echo}:from', '{echo}:to', 'lamp', '4900', '1']);
  });

  test.each([0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])(
    'with %d for a number is refused with the name, and not sent',
    async (amount) => {
      await expect(run(stores.redis, plain, { keys, args: { ...args, amount } })).rejects.toThrow(
        `amount is not an integer: ${amount}`,
      );
    },
  );

  test('with a reply that the definition does not know is refused', async () => {
    const mistaken = { ...plain, reply: z.tuple([z.literal('done')]) };
    await expect(run(stores.redis, mistaken, { keys, args })).rejects.toThrow(z.ZodError);
    expect(await send(stores.redis, mistaken, { keys, args })).toHaveLength(5);
  });
});

/** Never called: each call would be an error of the compiler, or this file would not compile. */
export const doNotCompile = [
  // @ts-expect-error a key is missing
  () => run(stores.redis, plain, { keys: { from: '' }, args }),
  // @ts-expect-error a key is misspelt
  () => run(stores.redis, plain, { keys: { from: '', too: '' }, args }),
  // @ts-expect-error a key too many
  () => run(stores.redis, plain, { keys: { from: '', to: '', via: '' }, args }),
  // @ts-expect-error a key that is no text
  () => run(stores.redis, plain, { keys: { from: '', to: (id: string) => id }, args }),
  // @ts-expect-error an argument is missing
  () => run(stores.redis, plain, { keys, args: { name: '', amount: 1 } }),
  // @ts-expect-error an argument is misspelt
  () => run(stores.redis, plain, { keys, args: { name: '', amuont: 1, isGift: true } }),
  // @ts-expect-error an argument too many
  () => run(stores.redis, plain, { keys, args: { name: '', amount: 1, isGift: true, colour: 'red' } }),
  // @ts-expect-error an argument without a value
  () => run(stores.redis, plain, { keys, args: { name: null, amount: 1, isGift: true } }),
  // @ts-expect-error the rows are missing
  () => run(stores.redis, echo, { keys, args }),
  // @ts-expect-error a column is misspelt
  () => run(stores.redis, echo, { keys, args, repeated: [{ sku: '', count: 1 }] }),
  // @ts-expect-error rows of a script that has none
  () => run(stores.redis, plain, { keys, args, repeated: [] }),
];
