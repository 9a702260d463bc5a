/**
 * A process that serves as little as can be: a bare Koa handler that does a design's steps and nothing else.
 * No token is checked and nothing is validated. `limit` is the least of all: one minimal script in Redis.
 */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Redis } from 'ioredis';
import Koa, { type Context } from 'koa';
import { z } from 'zod';
import { connectPlainRedis } from './lua-stock.ts';
import type { PeerOrder } from './peer.ts';
import { isPeerName, PEERS } from './peers.ts';
import { PRICE } from './price.ts';

/** KEYS: the units left. Takes one, if there is one. */
const TAKE_ONE = `
if tonumber(redis.call('GET', KEYS[1]) or '0') < 1 then return 0 end
redis.call('DECR', KEYS[1])
return 1`;

const settings = z
  .object({
    BARE: z.string(),
    PORT: z.coerce.number(),
    REDIS_URL: z.string(),
    MYSQL_URL: z.string(),
    RABBITMQ_URL: z.string().default(''),
    /** Of the limit: the key of its stock, and what comes before an orderNo in the key of an order. */
    STOCK_KEY: z.string().default(''),
    ORDER_KEY_PREFIX: z.string().default(''),
  })
  .parse(process.env);

const handler = settings.BARE === 'limit' ? await createLimit() : await createBarePeer();
const app = new Koa().use(handler);
const server = app.listen(settings.PORT, '127.0.0.1');
await once(process, 'SIGTERM');
server.close();
process.exit();

/** Orders, and reads of them: each is one round trip to Redis. */
async function createLimit() {
  const redis = connectPlainRedis(settings.REDIS_URL);
  const sha = String(await redis.script('LOAD', TAKE_ONE));
  return async (ctx: Context): Promise<void> => {
    if (ctx.method === 'GET') return readOrder(redis, ctx);
    await readText(ctx.req);
    const isTaken = (await redis.evalsha(sha, 1, settings.STOCK_KEY)) === 1;
    ctx.status = isTaken ? 202 : 409;
    ctx.body = isTaken ? { orderNo: ctx.get('Idempotency-Key'), status: 'queued' } : { code: 'sold_out' };
  };
}

async function readOrder(redis: Redis, ctx: Context): Promise<void> {
  const orderNo = ctx.path.slice(ctx.path.lastIndexOf('/') + 1);
  const [status, version] = await redis.hmget(settings.ORDER_KEY_PREFIX + orderNo, 'status', 'version');
  assert(status, `Redis has ${orderNo}`);
  ctx.etag = version ?? '';
  if (ctx.get('If-None-Match') === `"${version}"`) ctx.status = 304;
  else ctx.body = { orderNo, status, version: Number(version) };
}

async function createBarePeer() {
  assert(isPeerName(settings.BARE), 'BARE names a design, or the limit');
  const { REDIS_URL: redisUrl, MYSQL_URL: mysqlUrl, RABBITMQ_URL: rabbitmqUrl } = settings;
  const servers = { redisUrl, mysqlUrl, rabbitmqUrl };
  const peer = await PEERS[settings.BARE]({ servers, isIdempotent: false });
  return async (ctx: Context): Promise<void> => {
    const order = await readCart(ctx);
    const { kind } = await peer.accept(order);
    ctx.status = kind === 'accepted' ? 202 : 409;
    ctx.body = kind === 'accepted' ? { orderNo: order.orderNo, status: 'queued' } : { code: 'sold_out' };
  };
}

async function readCart(ctx: Context): Promise<PeerOrder> {
  // Not validated: only what a measurement sends comes here.
  const cart: Pick<PeerOrder, 'saleId' | 'items'> = JSON.parse(await readText(ctx.req));
  const idempotencyKey = ctx.get('Idempotency-Key');
  return {
    orderNo: idempotencyKey,
    saleId: cart.saleId,
    userId: 'shopper',
    idempotencyKey,
    items: cart.items.map(({ sku, quantity }) => ({ sku, quantity, unitPrice: PRICE.unitPrice })),
    total: PRICE.unitPrice,
    currency: PRICE.currency,
    reservedAtMs: Date.now(),
    paymentWindowMs: PRICE.paymentWindowMs,
    ip: '127.0.0.1',
    userAgent: '',
  };
}

/** By events, which cost less than an async iterator does. */
function readText(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = '';
    request
      .setEncoding('utf8')
      .on('data', (chunk: string) => {
        text += chunk;
      })
      .once('end', () => resolve(text))
      .once('error', reject);
  });
}
