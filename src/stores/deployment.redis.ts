/** The mark that says to which deployment Redis belongs. It is lost with the data that it stands beside. */

import { z } from 'zod';
import type { RedisClient } from '../redis/connection.ts';
import { DEPLOYMENT_KEY, parseSaleShard, SALES_KEY } from '../redis/keys.ts';

const mark = z.object({
  deploymentId: z.string(),
  name: z.string(),
  format: z.int(),
  /** Random, of this Redis' data. */
  redisId: z.string(),
});
export type DeploymentMark = z.infer<typeof mark>;

/** Undefined where there is none. */
export async function readMark(redis: RedisClient): Promise<DeploymentMark | undefined> {
  const text = await redis.get(DEPLOYMENT_KEY);
  return text === null ? undefined : mark.parse(JSON.parse(text));
}

/** @returns the mark that Redis has now: this one, unless another process was first */
export async function writeMark(redis: RedisClient, wanted: DeploymentMark): Promise<DeploymentMark> {
  await redis.set(DEPLOYMENT_KEY, JSON.stringify(wanted), 'NX');
  return (await readMark(redis)) ?? wanted;
}

/** The sales that Redis has. */
export async function listMarkedSales(redis: RedisClient): Promise<string[]> {
  const shards = (await redis.smembers(SALES_KEY)).flatMap((text) => parseSaleShard(text) ?? []);
  return [...new Set(shards.map(({ saleId }) => saleId))];
}
