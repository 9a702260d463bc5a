/**
 * The scripts with every argument to be chosen and replies as Redis gives them; and a sale's keys as Redis
 * has them.
 */

import { ulid } from 'ulidx';
import { expect } from 'vitest';
import { z } from 'zod';
import { formatOrderNo } from '../../src/orders/order.ts';
import {
  confirmScript as confirm,
  giveBackScript as giveBack,
  projectScript as project,
  releaseScript as release,
  reserveAgainScript as reserveAgain,
  wishCancelScript as wishCancel,
} from '../../src/orders/reservations.redis.ts';
import { reserveScript as reserve } from '../../src/orders/reserve.redis.ts';
import {
  dropDeadlineScript as dropDeadline,
  dropOpenScript as dropOpen,
  requeueScript as requeue,
  waitingScript as waiting,
} from '../../src/reconcile/holds.redis.ts';
import {
  lookSaleScript as lookSale,
  mendLimitScript as mendLimit,
  mendStockScript as mendStock,
  restoreHoldScript as restoreHold,
} from '../../src/reconcile/mends.redis.ts';
import {
  forgetOrderScript as forgetOrder,
  forgetSaleScript as forgetSale,
  renameUserScript as renameUser,
} from '../../src/reconcile/retention.redis.ts';
import type { RedisClient } from '../../src/redis/connection.ts';
import { changesChannelOf, epochOf, orderKeys, saleKeys } from '../../src/redis/keys.ts';
import { send } from '../../src/redis/script.ts';
import { changeSaleScript as changeSale } from '../../src/sales/stock.redis.ts';

const DAY_MS = 86_400_000;
const reply = z.array(z.string());

export interface ReserveCall {
  saleId: string;
  orderNo: string;
  epoch: string;
  userId: string;
  idempotencyKey: string;
  fingerprint: string;
  storesPerSecond: number;
  waitingElsewhere: number;
  outboxesElsewhere: number;
  lines: readonly { sku: string; quantity: number }[];
  carried: string;
  chargesTotal: number;
  expectedTotal: number | '';
  ticketId: string;
  ticketEndsAtMs: number;
  isSingleUse: boolean;
}

/** One lamp for ada, under an order number and a key of its own. */
export function buildReserveCall(
  saleId: string,
  overrides: Partial<Omit<ReserveCall, 'saleId'>> = {},
): ReserveCall {
  return {
    saleId,
    orderNo: newOrderNo(saleId),
    epoch: '1',
    userId: 'ada',
    idempotencyKey: ulid(),
    fingerprint: 'f',
    storesPerSecond: 100,
    waitingElsewhere: 0,
    outboxesElsewhere: 0,
    lines: [{ sku: 'lamp', quantity: 1 }],
    carried: '{}',
    chargesTotal: 0,
    expectedTotal: '',
    ticketId: '',
    ticketEndsAtMs: 0,
    isSingleUse: false,
    ...overrides,
  };
}

export function newOrderNo(saleId: string): string {
  return formatOrderNo({ saleId, shard: 0, epoch: 1, ulid: ulid() });
}

/** By itself: a call of one order. */
export async function callReserve(redis: RedisClient, call: ReserveCall): Promise<string[]> {
  const [answer] = await callReserveTogether(redis, [call]);
  return reply.parse(answer);
}

/** In one call, which has the sale and the backlog of the first. */
export async function callReserveTogether(
  redis: RedisClient,
  calls: readonly [ReserveCall, ...ReserveCall[]],
): Promise<string[][]> {
  const [{ saleId, storesPerSecond, waitingElsewhere, outboxesElsewhere }] = calls;
  const keys = saleKeys({ saleId, shard: 0 });
  const answer = await send(redis, reserve, {
    keys,
    args: { saleId, idempotencyTtlMs: DAY_MS, storesPerSecond, waitingElsewhere, outboxesElsewhere },
    repeated: calls.map((call) => ({
      ...call,
      order: keys.order(call.orderNo),
      idem: keys.idem(call.userId, call.idempotencyKey),
      ticket: keys.ticket(call.ticketId),
      items: JSON.stringify(call.lines),
    })),
  });
  return z.array(reply).parse(answer);
}

export async function callConfirm(redis: RedisClient, orderNo: string): Promise<string[]> {
  const args = { orderNo, epoch: epochOf(orderNo), projectionTtlMs: DAY_MS };
  return reply.parse(await send(redis, confirm, { keys: orderKeys(orderNo), args }));
}

export async function callRelease(redis: RedisClient, orderNo: string, isUnpaid = false): Promise<string[]> {
  const args = { orderNo, epoch: epochOf(orderNo), projectionTtlMs: DAY_MS, isUnpaid };
  return reply.parse(await send(redis, release, { keys: orderKeys(orderNo), args }));
}

/** The same order, said to have been accepted at noon of a day long past. */
export async function callReserveAgain(redis: RedisClient, call: ReserveCall): Promise<string[]> {
  const keys = orderKeys(call.orderNo);
  const answer = await send(redis, reserveAgain, {
    keys: { ...keys, idem: keys.idem(call.userId, call.idempotencyKey), ticket: keys.ticket(call.ticketId) },
    args: {
      ...call,
      idempotencyTtlMs: DAY_MS,
      items: JSON.stringify(call.lines.map((line) => ({ ...line, unitPrice: 100 }))),
      total: 100,
      currency: 'EUR',
      reservedAtMs: Date.UTC(2026, 0, 31, 12),
      paymentWindowMs: 60_000,
      lostEpoch: epochOf(call.orderNo),
      lateAfterMs: '',
    },
  });
  return reply.parse(answer);
}

export interface GiveBackCall extends Pick<ReserveCall, 'orderNo' | 'userId' | 'lines'> {
  limit: boolean;
  stock: boolean;
}

export async function callGiveBack(
  redis: RedisClient,
  { orderNo, userId, lines, limit, stock }: GiveBackCall,
): Promise<string[]> {
  const answer = await send(redis, giveBack, {
    keys: orderKeys(orderNo),
    args: {
      orderNo,
      epoch: epochOf(orderNo),
      userId,
      items: JSON.stringify(lines),
      isLimitAsked: limit,
      isStockAsked: stock,
      part: '',
    },
  });
  return reply.parse(answer);
}

/** Sets the totals of SKUs that cost one unit of money, and have no limit but those given. */
export async function callChangeSale(
  redis: RedisClient,
  saleId: string,
  changeNo: number,
  items: readonly { sku: string; total: number; limitPerUser?: number | null }[],
  changeId = `id ${changeNo}`,
  rules: Record<string, string> = {},
): Promise<string[]> {
  const { sale, stock } = saleKeys({ saleId, shard: 0 });
  const repeated = items.map(({ sku, total, limitPerUser }) => ({
    sku,
    unitPrice: 1,
    limit: limitPerUser ?? '',
    total,
  }));
  const args = {
    changeNo,
    changeId,
    epoch: 0,
    rules: JSON.stringify(rules),
    untilMs: 0,
    seenRunId: '',
  };
  return reply.parse(await send(redis, changeSale, { keys: { sale, stock }, args, repeated }));
}

export async function callProject(
  redis: RedisClient,
  orderNo: string,
  version: number,
  { status = 'awaiting_payment', extendedUntil = '' }: { status?: string; extendedUntil?: number | '' } = {},
): Promise<string[]> {
  const keys = { ...orderKeys(orderNo), changes: changesChannelOf(orderNo) };
  const args = { version, status, payment: 'none', reason: '', refunded: 0, extendedUntil };
  const repeated = extendedUntil === '' ? [] : [{ orderNo }];
  return reply.parse(await send(redis, project, { keys, keyList: [keys.order], args, repeated }));
}

export async function callWishCancel(redis: RedisClient, orderNo: string): Promise<string[]> {
  const args = { reason: 'shopper_request' };
  return reply.parse(await send(redis, wishCancel, { keys: orderKeys(orderNo), args }));
}

/** Where the order's entry is; see `lua/waiting.lua`. */
export async function callWaiting(redis: RedisClient, orderNo: string): Promise<string[]> {
  const keys = orderKeys(orderNo);
  return reply.parse(await send(redis, waiting, { keys, keyList: [keys.order], args: {} }));
}

export async function callRequeue(redis: RedisClient, orderNo: string, entry: string): Promise<string[]> {
  return reply.parse(await send(redis, requeue, { keys: orderKeys(orderNo), args: { orderNo, entry } }));
}

export async function callDropDeadline(redis: RedisClient, orderNo: string): Promise<string[]> {
  return reply.parse(await send(redis, dropDeadline, { keys: orderKeys(orderNo), args: { orderNo } }));
}

/** See `lua/look-sale.lua`. */
export async function callLookSale(
  redis: RedisClient,
  saleId: string,
  fields: readonly string[] = [],
): Promise<string[]> {
  const keys = saleKeys({ saleId, shard: 0 });
  const repeated = fields.map((field) => ({ field }));
  const args = { lookId: 'look', movesTtlMs: 60_000 };
  return reply.parse(await send(redis, lookSale, { keys, args, repeated }));
}

/** Of the lamp, found in the first epoch before any other correction. */
export async function callMendStock(
  redis: RedisClient,
  saleId: string,
  overrides: Partial<
    Record<'epoch' | 'mends' | 'changeNo' | 'total' | 'heldDelta' | 'soldDelta', number>
  > = {},
): Promise<string[]> {
  const keys = saleKeys({ saleId, shard: 0 });
  const found = { sku: 'lamp', epoch: 1, mends: 0, changeNo: 2, total: 10, heldDelta: 0, soldDelta: 0 };
  return reply.parse(await send(redis, mendStock, { keys, args: { ...found, ...overrides } }));
}

/** Of ada's lamps, found in the first epoch before any other correction. */
export async function callMendLimit(
  redis: RedisClient,
  saleId: string,
  overrides: Partial<Record<'epoch' | 'mends' | 'delta', number>> = {},
): Promise<string[]> {
  const keys = saleKeys({ saleId, shard: 0 });
  const found = { field: 'lamp:ada', epoch: 1, mends: 0, delta: 0 };
  return reply.parse(await send(redis, mendLimit, { keys, args: { ...found, ...overrides } }));
}

/** The order as MySQL would have it: one lamp for ada, awaiting payment. */
export async function callRestoreHold(
  redis: RedisClient,
  orderNo: string,
  { epoch = 1, untilMs = Date.now() + DAY_MS } = {},
): Promise<string[]> {
  const keys = orderKeys(orderNo);
  const args = {
    orderNo,
    epoch,
    untilMs,
    saleId: orderNo.slice(0, orderNo.indexOf('-')),
    userId: 'ada',
    idempotencyKey: ulid(),
    items: JSON.stringify([{ sku: 'lamp', quantity: 1, unitPrice: 100 }]),
    total: 100,
    currency: 'EUR',
    reservedAtMs: Date.UTC(2026, 0, 31, 12),
    paymentWindowMs: 60_000,
    carried: '{}',
    status: 'awaiting_payment',
    version: 1,
    payment: 'none',
    reason: '',
    extendedUntil: '',
  };
  return reply.parse(await send(redis, restoreHold, { keys, args }));
}

export async function callForgetSale(redis: RedisClient, saleId: string): Promise<string[]> {
  return reply.parse(await send(redis, forgetSale, { keys: saleKeys({ saleId, shard: 0 }), args: {} }));
}

/** Of ada, under this idempotency key. */
export async function callForgetOrder(
  redis: RedisClient,
  orderNo: string,
  idempotencyKey: string,
): Promise<string[]> {
  const keys = orderKeys(orderNo);
  return reply.parse(
    await send(redis, forgetOrder, {
      keys: { ...keys, idem: keys.idem('ada', idempotencyKey) },
      args: { orderNo, userId: 'ada' },
    }),
  );
}

/** Ada's lamps and mugs are counted under a token. */
export async function callRenameUser(redis: RedisClient, saleId: string): Promise<string[]> {
  const keys = saleKeys({ saleId, shard: 0 });
  const repeated = [{ sku: 'lamp' }, { sku: 'mug' }];
  return reply.parse(
    await send(redis, renameUser, { keys, args: { userId: 'ada', token: 'erased-1' }, repeated }),
  );
}

/**
 * Every key of the sale with its value and the moment it expires: equal snapshots mean that nothing was
 * written.
 */
export async function snapshot(redis: RedisClient, saleId: string): Promise<Record<string, unknown>> {
  const keys = (await redis.keys(`holdfast:{${saleId}.0}:*`)).toSorted();
  const values = await Promise.all(
    keys.map(async (key) => {
      const [value, expiresAtMs] = await Promise.all([readKey(redis, key), redis.pexpiretime(key)]);
      return [key, { value, expiresAtMs }] as const;
    }),
  );
  return Object.fromEntries(values);
}

/** The answer of a call that writes nothing of the sale. */
export async function expectUnchanged<T>(
  redis: RedisClient,
  saleId: string,
  call: () => Promise<T>,
): Promise<T> {
  const before = await snapshot(redis, saleId);
  const answer = await call();
  expect(await snapshot(redis, saleId)).toEqual(before);
  return answer;
}

async function readKey(redis: RedisClient, key: string): Promise<unknown> {
  const type = await redis.type(key);
  if (type === 'hash') return redis.hgetall(key);
  if (type === 'zset') return redis.zrange(key, '0', '-1', 'WITHSCORES');
  if (type === 'set') return (await redis.smembers(key)).toSorted();
  if (type === 'stream') return redis.xrange(key, '-', '+');
  return redis.get(key);
}

export async function callDropOpen(redis: RedisClient, orderNo: string, userId = 'ada'): Promise<string[]> {
  return reply.parse(await send(redis, dropOpen, { keys: orderKeys(orderNo), args: { orderNo, userId } }));
}
