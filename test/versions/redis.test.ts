/** On which Redis the tests of this run are: `npm run test:redis-8` would prove nothing on another. */

import { Redis } from 'ioredis';
import { expect, inject, test } from 'vitest';
import { startPrivateRedis } from '../support/private-redis.ts';

test('the Redises of a run on Redis 8.2 are of that version, those of a test alone too', async () => {
  const own = await startPrivateRedis();
  const versions = await Promise.all([...inject('redisUrls'), own.url].map(readVersion));
  await own.stop();
  expect(versions.every((version) => version.startsWith('8.2.'))).toBe(true);
});

async function readVersion(url: string): Promise<string> {
  const redis = new Redis(url);
  const info = await redis.info('server');
  redis.disconnect();
  return /^redis_version:(\S+)/m.exec(info)?.[1] ?? '';
}
