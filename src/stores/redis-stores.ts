/** The stores in Redis that need no settings: one module a noun, bound to a client. */

import { bind } from './bind.ts';
import type { RedisClient } from './redis/connection.ts';
import * as driftBoard from './redis/drift-board.ts';
import * as feedMarks from './redis/feed-marks.ts';
import * as forgetting from './redis/forgetting.ts';
import * as holds from './redis/holds.ts';
import * as saleMends from './redis/sale-mends.ts';
import * as saleRebuild from './redis/sale-rebuild.ts';
import * as saleStock from './redis/sale-stock.ts';

export type RedisStores = ReturnType<typeof redisStores>;

export function redisStores(redis: RedisClient) {
  return {
    holds: bind(redis, holds),
    forgetting: bind(redis, forgetting),
    saleRebuild: bind(redis, saleRebuild),
    saleMends: bind(redis, saleMends),
    driftBoard: bind(redis, driftBoard),
    feedMarks: bind(redis, feedMarks),
    saleStock: bind(redis, saleStock),
  };
}
