/** On which Redis the tests of this run are: `npm run test:redis-8` would prove nothing on another. */

import { Redis } from 'ioredis';
import { expect, test } from 'vitest';
import { ownRedisUrl } from '../support/own-redis.ts';
import { startPrivateRedis } from '../support/private-redis.ts';

test('the Redis of a file and that of a test are of version 8.2', async () => {
  const own = await startPrivateRedis();
  const versions = await Promise.all([await ownRedisUrl(), own.url].map(readVersion));
  await own.stop();
  expect(versions.every((version) => version.startsWith('8.2.'))).toBe(true);
});

async function readVersion(url: string): Promise<string> {
  const redis = new Redis(url);
  const info = await redis.info('server');
  redis.disconnect();
  return /^redis_version:(\S+)/m.exec(info)?.[1] ?? '';
}
