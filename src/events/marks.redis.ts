/** How far the feed of events was numbered, kept beside MySQL: one that has lost commits knows less. */

import { answerInTime, type RedisClient } from '../redis/connection.ts';
import { FEED_MARKS_KEY } from '../redis/keys.ts';

/** The greatest sequence that was given in this feed; 0: none is known. Throws when Redis is away. */
export async function read(redis: RedisClient, feedId: string): Promise<number> {
  return Number((await answerInTime(redis.zscore(FEED_MARKS_KEY, feedId))) ?? 0);
}

/** A smaller one changes nothing. Throws when Redis is away. */
export async function raise(redis: RedisClient, feedId: string, sequence: number): Promise<void> {
  await answerInTime(redis.zadd(FEED_MARKS_KEY, 'GT', sequence, feedId));
}
