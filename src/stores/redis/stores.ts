/** The stores in Redis that need no settings: one module a noun, bound to a client. */

import { bind } from '../bind.ts';
import type { RedisClient } from './connection.ts';
import * as driftBoard from './drift-board.ts';
import * as feedMarks from './feed-marks.ts';
import * as forgetting from './forgetting.ts';
import * as holds from './holds.ts';
import * as saleMends from './sale-mends.ts';
import * as saleRebuild from './sale-rebuild.ts';
import * as saleStock from './sale-stock.ts';

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
