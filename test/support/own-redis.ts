/** The Redis of the running test file: no other file or process uses it. */

import { withRedis } from '../../stack/servers/redis.ts';
import { startPrivateRedis, type PrivateRedis } from './private-redis.ts';
import { waitFor } from './wait.ts';

/** A connection is gone within milliseconds once it is closed; this is for a machine that stalls. */
const CLOSED_WITHIN_MS = 20_000;

let own: Promise<PrivateRedis> | undefined;

/** Started by the first call of a file. A Redis that the environment names is the only one. */
export async function ownRedisUrl(): Promise<string> {
  const given = process.env['REDIS_URL'];
  if (given) return given;
  own ??= startPrivateRedis();
  try {
    return (await own).url;
  } catch (error) {
    // The next file tries anew.
    own = undefined;
    throw error;
  }
}

/** The setup file calls it after the file's own hooks. Throws when the file has left a connection open. */
export async function endOwnRedis(): Promise<void> {
  const starting = own;
  own = undefined;
  const redis = await starting;
  if (redis === undefined) return;
  try {
    await awaitNoClients(redis.url);
  } finally {
    await redis.stop();
  }
}

async function awaitNoClients(url: string): Promise<void> {
  await withRedis(url, (redis) =>
    waitFor(
      'all connections to the Redis of this file to be closed',
      async () => {
        const id = await redis.client('ID');
        const clients = String(await redis.client('LIST'))
          .trim()
          .split('\n');
        return clients.every((client) => client.startsWith(`id=${id} `));
      },
      CLOSED_WITHIN_MS,
    ),
  );
}
