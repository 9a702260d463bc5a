/**
 * Defines Lua scripts and calls them by the names of their keys and arguments; the definition has the order.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Cluster, Redis } from 'ioredis';
import { z, ZodError } from 'zod';
import { storeFailed } from '../metrics.ts';
import { jsonText } from '../orders/content.ts';

/** An integer of a reply. */
export const replyInt = z.coerce.number().int();

/** A JSON list of texts. Lua writes an empty list as an object. */
export const textsJson = jsonText(z.union([z.array(z.string()), z.object({}).transform((): string[] => [])]));

/** A number is an integer, because every unit is whole. A boolean is sent as 1 or 0. */
type Value = string | number | boolean;

export interface Script<Key extends string, Arg extends string, Column extends string, Reply> {
  /** The name of the command, and of the file: `lua/<name>.lua`. */
  name: string;
  lua: string;
  /** KEYS, in order. */
  keys: readonly Key[];
  /** ARGV, in order. */
  args: readonly Arg[];
  /** The columns of a list that follows `args` in ARGV, row by row. */
  repeated: readonly Column[];
  /** The keys that a row has besides, which follow `keys` in KEYS, row by row. */
  repeatedKeys: readonly Column[];
  /** What the keys of a list are that follows `keys` in KEYS. Undefined: there is no list. */
  keyList: string | undefined;
  reply: z.ZodType<Reply>;
}

/** A row of a script that repeats: its keys and its arguments. */
export type RowOf<S> =
  S extends Script<string, string, infer Column, unknown> ? Readonly<Record<Column, Value>> : never;

interface Named<Key extends string, Arg extends string> {
  /** Other keys may be there too, so that all keys of a sale or an order can be passed as they are. */
  keys: Readonly<Record<Key, string>>;
  args: Readonly<Record<Arg, Value>>;
  /** For a script with a `keyList`. */
  keyList?: readonly string[];
}

interface Rows<Column extends string> {
  repeated: readonly Readonly<Record<Column, Value>>[];
}

type Call<Key extends string, Arg extends string, Column extends string> = [Column] extends [never]
  ? Named<Key, Arg>
  : Named<Key, Arg> & Rows<Column>;

const require = createRequire(import.meta.url);

export function defineScript<
  const Key extends string,
  const Arg extends string,
  Reply,
  const Column extends string = never,
>({
  file,
  keys,
  args,
  repeated = [],
  repeatedKeys = [],
  keyList,
  reply,
}: {
  /** Without `.lua`. */
  file: string;
  keys: readonly Key[];
  args: readonly Arg[];
  repeated?: readonly Column[];
  repeatedKeys?: readonly Column[];
  keyList?: string;
  reply: z.ZodType<Reply>;
}): Script<Key, Arg, Column, Reply> {
  return { name: file, lua: readLua(`${file}.lua`), keys, args, repeated, repeatedKeys, keyList, reply };
}

/** The text, with what it includes from `lua/shared` in the place of the line that names it. */
function readLua(path: string): string {
  const lua = readFileSync(require.resolve(`#lua/${path}`), 'utf8');
  return lua.replaceAll(/^-- include (\S+)$/gm, (_, included: string) => readLua(included));
}

/** Undefined where a call says how many keys it has, because the number varies. */
function numberOfKeys({
  keys,
  keyList,
  repeatedKeys,
}: Pick<Script<string, string, string, unknown>, 'keys' | 'keyList' | 'repeatedKeys'>): number | undefined {
  return keyList === undefined && repeatedKeys.length === 0 ? keys.length : undefined;
}

/** Sends the script and parses its reply. */
export async function run<Key extends string, Arg extends string, Column extends string, Reply>(
  redis: Redis | Cluster,
  script: Script<Key, Arg, Column, Reply>,
  call: NoInfer<Call<Key, Arg, Column>>,
): Promise<Reply> {
  return script.reply.parse(await send(redis, script, call).catch(countFailure));
}

/** @throws the error again */
function countFailure(error: unknown): never {
  const isRefused = error instanceof Error && error.name === 'ReplyError' && !isServers(error);
  storeFailed('redis', isRefused ? 'refused' : 'unavailable');
  throw error;
}

/** The reply as Redis gives it. */
export function send<Key extends string, Arg extends string, Column extends string, Reply>(
  redis: Redis | Cluster,
  script: Script<Key, Arg, Column, Reply>,
  call: NoInfer<Call<Key, Arg, Column>>,
): Promise<unknown> {
  // A script is a command that the connection is given with its first call: it sends EVALSHA, and EVAL where
  // Redis has forgotten the script. The types of ioredis do not show it, so no other code can call it.
  const { name, lua } = script;
  if (!Object.hasOwn(redis, name)) {
    const count = numberOfKeys(script);
    redis.defineCommand(name, count === undefined ? { lua } : { lua, numberOfKeys: count });
  }
  const command: unknown = Reflect.get(redis, name);
  assert(typeof command === 'function', `the connection has the command ${name}`);
  return Reflect.apply(command, redis, inOrder(script, call));
}

/**
 * KEYS and ARGV in order; where the number of keys varies, it comes first. Each order that `reserve` is sent
 * comes through here, so it is one pass over the names.
 */
function inOrder<Key extends string, Arg extends string, Column extends string>(
  script: Script<Key, Arg, Column, unknown>,
  call: NoInfer<Call<Key, Arg, Column>>,
): string[] {
  const { keys, args, repeated = [], keyList = [] }: Named<Key, Arg> & Partial<Rows<Column>> = call;
  const values: string[] = [];
  if (numberOfKeys(script) === undefined) {
    const ofRows = script.repeatedKeys.length * repeated.length;
    values.push(String(script.keys.length + keyList.length + ofRows));
  }
  for (const name of script.keys) values.push(keys[name]);
  for (const key of keyList) values.push(key);
  for (const row of repeated) for (const name of script.repeatedKeys) values.push(toText(name, row[name]));
  for (const name of script.args) values.push(toText(name, args[name]));
  for (const row of repeated) for (const name of script.repeated) values.push(toText(name, row[name]));
  return values;
}

function toText(name: string, value: Value): string {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return value ? '1' : '0';
  if (!Number.isSafeInteger(value)) throw new Error(`${name} is not an integer: ${value}`);
  return String(value);
}

/** Redis answers, and what it has of this very key is not as the scripts write it. */
export function isDamaged(error: unknown): boolean {
  return (
    error instanceof ZodError ||
    error instanceof SyntaxError ||
    (error instanceof Error && error.name === 'ReplyError' && !isServers(error))
  );
}

/** Errors that concern the server and not the key. */
function isServers({ message }: Error): boolean {
  return /^(OOM|LOADING|BUSY|READONLY|MISCONF|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|NOAUTH|MOVED|ASK|TRYAGAIN) /.test(
    message,
  );
}
