/** Test file of a run that ends badly, in the way that END_BADLY names: it leaves a Redis each time. */

import { writeFileSync } from 'node:fs';
import { afterAll, test } from 'vitest';
import { ownRedisUrl } from '../../support/own-redis.ts';
import { startPrivateRedis } from '../../support/private-redis.ts';

const { END_BADLY: how, NOTE: note = '', HOLDFAST_TEST_RUN: folder } = process.env;
const never = (): Promise<void> => new Promise(() => {});

// The bound is what is tried.
afterAll(() => (how === 'a hook hangs' ? never() : undefined), 500);

test('two Redises are started and not ended', async () => {
  const { url } = await startPrivateRedis();
  writeFileSync(note, JSON.stringify({ urls: [url, await ownRedisUrl()], folder }));
  if (how === 'the worker is killed') process.kill(process.pid, 'SIGKILL');
  if (how === 'vitest is killed') process.kill(process.ppid, 'SIGKILL');
  if (how !== 'a hook hangs') await never();
});
