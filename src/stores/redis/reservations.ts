/** Holds and projections in Redis: the code that calls `reserve`, `confirm`, `release`, `project` and what mends later. */

import assert from 'node:assert/strict';
import { monotonicFactory } from 'ulidx';
import type { z } from 'zod';
import { IDEMPOTENCY_TTL_MS, PROJECTION_TTL_MS } from '../../domain/limits.ts';
import { formatOrderNo, type GiveBack, type Order, type OrderState } from '../../domain/order.ts';
import { fingerprintOf } from '../../domain/request-fingerprint.ts';
import { isOutOfMemory, type RedisClient } from './connection.ts';
import { orderKeys, saleKeys, shardOf } from './keys.ts';
import {
  giveBackReply,
  holdReply,
  orderHash,
  projectReply,
  reserveAgainReply,
  reserveReply,
} from './replies.ts';

export interface ReserveRequest {
  saleId: string;
  userId: string;
  idempotencyKey: string;
  /** Digest of what was asked, so that a key cannot be reused for something else. */
  fingerprint: string;
  /** Each SKU once. */
  items: { sku: string; quantity: number }[];
  ip: string;
  userAgent: string;
}

/** What a shopper is told at once; see `lua/reserve.lua`. */
export type ReserveOutcome =
  | Exclude<z.infer<typeof reserveReply>, { kind: 'epoch-changed' }>
  /** Redis is at maxmemory. The script did not run, so nothing was taken (unless it is a resend after a lost connection). */
  | { kind: 'store-full' };

/** See `lua/reserve-again.lua`. */
type ReserveAgainOutcome = z.infer<typeof reserveAgainReply>;

/** See `lua/give-back.lua`. Only after `held` does asking again make a difference. */
type GiveBackOutcome = z.infer<typeof giveBackReply>;

/** An order as Redis has it: what was accepted, and the projected state. */
export interface ReservedOrder {
  order: Order;
  state: OrderState;
}

/** Sales whose epoch is remembered; a process meets far fewer, and forgetting one costs one read. */
const REMEMBERED_SALES_MAX = 1_000;
/** The epoch changes when Redis is rebuilt, not twice within one request. */
const EPOCH_TRIES = 3;

export type Reservations = ReturnType<typeof createReservations>;

/** @param startsPerSecond orders the engine can start per second, all workers together; bounds the backlog. */
export function createReservations(redis: RedisClient, { startsPerSecond }: { startsPerSecond: number }) {
  // Only a guess to make order numbers with: the script compares it and decides.
  const epochs = new Map<string, string>();
  // Within a millisecond it counts on, which spares most of the random bytes.
  const nextUlid = monotonicFactory();

  async function epochOf(saleId: string, shard: number): Promise<string | null> {
    const known = epochs.get(saleId);
    if (known !== undefined) return known;
    const epoch = await redis.hget(saleKeys({ saleId, shard }).sale, 'epoch');
    if (epoch !== null) rememberEpoch(saleId, epoch);
    return epoch;
  }

  function rememberEpoch(saleId: string, epoch: string): void {
    if (epochs.size >= REMEMBERED_SALES_MAX) epochs.clear();
    epochs.set(saleId, epoch);
  }

  async function callReserve(request: ReserveRequest, shard: number, epoch: string) {
    const { saleId, userId, idempotencyKey } = request;
    const orderNo = formatOrderNo({ saleId, shard, epoch: Number(epoch), ulid: nextUlid() });
    const keys = saleKeys({ saleId, shard });
    const reply = await redis.reserve(
      keys.sale,
      keys.stock,
      keys.limits,
      keys.order(orderNo),
      keys.idem(userId, idempotencyKey),
      keys.outbox,
      keys.deadlines,
      keys.storedAhead,
      orderNo,
      epoch,
      saleId,
      userId,
      idempotencyKey,
      request.fingerprint,
      String(IDEMPOTENCY_TTL_MS),
      String(startsPerSecond),
      request.ip,
      request.userAgent,
      ...request.items.flatMap((item) => [item.sku, String(item.quantity)]),
    );
    return reserveReply.parse(reply);
  }

  async function tryReserve(request: ReserveRequest): Promise<ReserveOutcome> {
    const shard = shardOf(request.userId);
    for (let attempt = 0; attempt < EPOCH_TRIES; attempt += 1) {
      // Without a sale no order number can be made; the script would answer the same.
      const epoch = await epochOf(request.saleId, shard);
      if (epoch === null) return { kind: 'sale-absent' };
      const reply = await callReserve(request, shard, epoch);
      if (reply.kind !== 'epoch-changed') return reply;
      rememberEpoch(request.saleId, reply.epoch);
    }
    throw new Error(`the epoch of sale ${request.saleId} keeps changing`);
  }

  return {
    /**
     * Holds stock and queues the order, in one atomic step.
     * @throws when Redis' answer is unknown: the caller repeats with the same idempotency key
     */
    async reserve(request: ReserveRequest): Promise<ReserveOutcome> {
      // The script checks each line by itself, so a SKU named twice could slip past both checks.
      assert(new Set(request.items.map((item) => item.sku)).size === request.items.length, 'each SKU once');
      try {
        return await tryReserve(request);
      } catch (error) {
        if (isOutOfMemory(error)) return { kind: 'store-full' };
        throw error;
      }
    },

    /** held → sold. Idempotent. */
    async confirm(orderNo: string): Promise<z.infer<typeof holdReply>> {
      const keys = orderKeys(orderNo);
      const reply = await redis.confirm(
        keys.orderKey,
        keys.stock,
        keys.deadlines,
        orderNo,
        String(PROJECTION_TTL_MS),
      );
      return holdReply.parse(reply);
    },

    /** held → released. Idempotent. Only after MySQL has committed the order's end. */
    async release(orderNo: string): Promise<z.infer<typeof holdReply>> {
      const keys = orderKeys(orderNo);
      const reply = await redis.release(
        keys.orderKey,
        keys.stock,
        keys.limits,
        keys.deadlines,
        orderNo,
        String(PROJECTION_TTL_MS),
      );
      return holdReply.parse(reply);
    },

    /**
     * Holds stock for an order that was accepted before and that no store knows any more, and queues it. Idempotent.
     * @throws when Redis is away or full: nothing is decided
     */
    async reserveAgain(order: Order): Promise<ReserveAgainOutcome> {
      const { orderNo, items } = order;
      assert(new Set(items.map(({ sku }) => sku)).size === items.length, 'each SKU once');
      const keys = orderKeys(orderNo);
      const reply = await redis.reserveAgain(
        keys.sale,
        keys.stock,
        keys.limits,
        keys.orderKey,
        keys.idem(order.userId, order.idempotencyKey),
        keys.outbox,
        keys.deadlines,
        keys.restored,
        orderNo,
        order.saleId,
        order.userId,
        order.idempotencyKey,
        fingerprintOf(order),
        String(IDEMPOTENCY_TTL_MS),
        JSON.stringify(items),
        String(order.total),
        order.currency,
        String(order.reservedAtMs),
        String(order.paymentWindowMs),
        order.ip,
        order.userAgent,
      );
      return reserveAgainReply.parse(reply);
    },

    /** Stock sold → returned, the user's allowance, or both, each once. Only after MySQL has committed it. */
    async giveBack({ orderNo, userId, items, limit, stock }: GiveBack): Promise<GiveBackOutcome> {
      const keys = orderKeys(orderNo);
      const reply = await redis.giveBack(
        keys.orderKey,
        keys.stock,
        keys.limits,
        keys.returns,
        orderNo,
        userId,
        JSON.stringify(items),
        limit ? '1' : '0',
        stock ? '1' : '0',
      );
      return giveBackReply.parse(reply);
    },

    /** Copies a state from MySQL for pollers; an older version changes nothing. */
    async project(orderNo: string, state: OrderState): Promise<z.infer<typeof projectReply>> {
      const { version, status, payment, reason } = state;
      const key = orderKeys(orderNo).orderKey;
      return projectReply.parse(await redis.project(key, String(version), status, payment, reason ?? ''));
    },

    /** The order as accepted and its projection; undefined when Redis does not have it (any more). */
    async readOrder(orderNo: string): Promise<ReservedOrder | undefined> {
      const hash = await redis.hgetall(orderKeys(orderNo).orderKey);
      return hash['sale_id'] === undefined ? undefined : toReservedOrder(orderNo, hash);
    },
  };
}

function toReservedOrder(orderNo: string, hash: Record<string, string>): ReservedOrder {
  const parsed = orderHash.parse(hash);
  const { status, version, payment, reason } = parsed;
  return {
    order: {
      orderNo,
      saleId: parsed.sale_id,
      userId: parsed.user_id,
      items: parsed.items,
      total: parsed.total,
      currency: parsed.currency,
      idempotencyKey: parsed.idempotency_key,
      reservedAtMs: parsed.reserved_at,
      paymentWindowMs: parsed.payment_window,
      ip: parsed.ip,
      userAgent: parsed.user_agent,
    },
    state: { status, version, payment, reason },
  };
}
