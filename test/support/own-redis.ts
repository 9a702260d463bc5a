/** The Redis of the running test file: no other file or process uses it. */

import { startPrivateRedis, type PrivateRedis } from './private-redis.ts';

let own: Promise<PrivateRedis> | undefined;

/** Started by the first call of a file. A Redis that the environment names is the only one. */
export async function ownRedisUrl(): Promise<string> {
  const given = process.env['REDIS_URL'];
  if (given) return given;
  own ??= startPrivateRedis();
  return (await own).url;
}

/** The setup file calls it after the file's own hooks. */
export async function endOwnRedis(): Promise<void> {
  const ended = own;
  own = undefined;
  await (await ended)?.stop();
}
