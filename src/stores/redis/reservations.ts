/**
 * Holds and projections in Redis: takes stock for an order, settles it, gives it back, and shows the order's
 * state.
 */

import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { monotonicFactory } from 'ulidx';
import type { z } from 'zod';
import { IDEMPOTENCY_TTL_MS, PROJECTION_TTL_MS } from '../../domain/limits.ts';
import {
  formatOrderNo,
  holdEpochOf,
  parseOrderNo,
  type Charge,
  type GiveBack,
  type Order,
  type OrderState,
  type ShopData,
} from '../../domain/order.ts';
import { fingerprintOf } from '../../domain/request-fingerprint.ts';
import { shopDataOf } from '../../domain/shop-data.ts';
import { isOutOfMemory, type RedisClient } from './connection.ts';
import { epochOf, orderKeys, saleKeys, shardOf } from './keys.ts';
import {
  ORDER_FIELDS,
  toReservedOrder,
  toReservedOrderIfWhole,
  toShopField,
  type ReservedOrder,
} from './order-hash.ts';
import { createOrderLookUp } from './order-look.ts';
import type { giveBackReply, holdReply, projectReply, reserveAgainReply, reserveReply } from './replies.ts';
import { run } from './script-call.ts';
import { confirm, giveBack, project, readOrders, release, reserve, reserveAgain } from './scripts.ts';

export type { ReservedOrder } from './order-hash.ts';

/** A ticket that was found authentic, and of this user and sale. */
export interface AcceptedTicket {
  /** A digest that no other ticket has. */
  id: string;
  /** Unix time in ms from which it is refused. */
  endsAtMs: number;
  isSingleUse: boolean;
  /** Lines that add to the total; none: empty. */
  charges: Charge[];
}

export interface ReserveRequest extends Pick<ShopData, 'reference' | 'metadata'> {
  saleId: string;
  userId: string;
  idempotencyKey: string;
  /** Digest of what was asked, so that a key cannot be reused for something else. */
  fingerprint: string;
  /** Each SKU once. */
  items: { sku: string; quantity: number }[];
  /** The total that the shopper saw, in minor units. */
  expectedTotal?: number;
  ticket?: AcceptedTicket;
  ip: string;
  userAgent: string;
}

type ReserveReply = z.infer<typeof reserveReply>;

/** The answer to a shopper's request; see `lua/reserve.lua`. */
export type ReserveOutcome =
  | Exclude<ReserveReply, { kind: 'epoch-changed' | 'reserved' }>
  | (Extract<ReserveReply, { kind: 'reserved' }> & ShopData)
  /**
   * Redis is at maxmemory. The script did not run and took nothing (an earlier send, cut off, may have taken
   * it).
   */
  | { kind: 'store-full' };

/** What `confirm` and `release` found; see `lua/confirm.lua`. */
export type HoldOutcome = z.infer<typeof holdReply>;

/** See `lua/reserve-again.lua`. */
export type ReserveAgainOutcome = z.infer<typeof reserveAgainReply>;

/** See `lua/give-back.lua`. Only `held` can become another outcome later. */
type GiveBackOutcome = z.infer<typeof giveBackReply>;

/** Sales whose epoch is remembered; a process meets far fewer, and forgetting one costs one read. */
const REMEMBERED_SALES_MAX = 1_000;
/** Random bytes drawn at a time: 256 order numbers' worth. */
const RANDOM_BYTES = 4_096;
/** The epoch changes when Redis is rebuilt, not twice within one request. */
const EPOCH_TRIES = 3;

export type Reservations = ReturnType<typeof createReservations>;

/**
 * @param startsPerSecond orders the engine can start per second, all workers together; bounds the backlog.
 */
export function createReservations(redis: RedisClient, { startsPerSecond }: { startsPerSecond: number }) {
  // A guess, to make order numbers with: the script compares it and decides.
  const epochs = new Map<string, string>();
  const nextUlid = monotonicFactory(createRandom());

  async function readEpoch(saleId: string, shard: number): Promise<string | null> {
    const epoch = await redis.hget(saleKeys({ saleId, shard }).sale, 'epoch');
    if (epoch !== null) rememberEpoch(saleId, epoch);
    return epoch;
  }

  function rememberEpoch(saleId: string, epoch: string): void {
    if (epochs.size >= REMEMBERED_SALES_MAX) epochs.clear();
    epochs.set(saleId, epoch);
  }

  function callReserve(request: ReserveRequest, shard: number, epoch: string) {
    const { saleId, userId, idempotencyKey } = request;
    const orderNo = formatOrderNo({ saleId, shard, epoch: Number(epoch), ulid: nextUlid() });
    const keys = saleKeys({ saleId, shard });
    const { ticket, expectedTotal = 0 } = request;
    return run(redis, reserve, {
      keys: {
        ...keys,
        order: keys.order(orderNo),
        idem: keys.idem(userId, idempotencyKey),
        ticket: keys.ticket(ticket?.id ?? ''),
      },
      args: {
        orderNo,
        epoch,
        saleId,
        userId,
        idempotencyKey,
        fingerprint: request.fingerprint,
        idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
        startsPerSecond,
        ip: request.ip,
        userAgent: request.userAgent,
        shop: toShopField(shopDataOfRequest(request)),
        chargesTotal: (ticket?.charges ?? []).reduce((sum, { amount }) => sum + amount, 0),
        expectedTotal,
        ticketEndsAtMs: ticket?.endsAtMs ?? 0,
        isSingleUse: ticket?.isSingleUse ?? false,
      },
      repeated: request.items,
    });
  }

  async function tryReserve(request: ReserveRequest): Promise<ReserveOutcome> {
    const shard = shardOf(request.userId);
    for (let attempt = 0; attempt < EPOCH_TRIES; attempt += 1) {
      // Without a sale no order number can be made; the script would answer the same.
      const epoch = epochs.get(request.saleId) ?? (await readEpoch(request.saleId, shard));
      if (epoch === null) return { kind: 'sale-absent' };
      const reply = await callReserve(request, shard, epoch);
      // Redis had the sale, so it has lost it, and will have it again.
      if (reply.kind === 'sale-absent') return { kind: 'paused' };
      if (reply.kind === 'reserved') return { ...reply, ...shopDataOfRequest(request) };
      if (reply.kind !== 'epoch-changed') return reply;
      rememberEpoch(request.saleId, reply.epoch);
    }
    throw new Error(`the epoch of sale ${request.saleId} keeps changing`);
  }

  /** As `project`, for orders of one sale shard that have the same state, in one round trip. */
  function projectAll(orderNos: readonly string[], state: OrderState): Promise<z.infer<typeof projectReply>> {
    return run(redis, project, {
      keys: {},
      keyList: orderNos.map((orderNo) => orderKeys(orderNo).order),
      // Redis has no null: empty means none.
      args: { ...state, reason: state.reason ?? '', refunded: state.refunded ?? 0 },
    });
  }

  return {
    /**
     * Holds stock and queues the order, in one atomic step.
     * @throws when Redis' answer is unknown: the caller repeats with the same idempotency key
     */
    async reserve(request: ReserveRequest): Promise<ReserveOutcome> {
      assertEachSkuOnce(request.items);
      try {
        return await tryReserve(request);
      } catch (error) {
        if (isOutOfMemory(error)) return { kind: 'store-full' };
        throw error;
      }
    },

    /** What `reserve` would answer, where the same key came before; otherwise undefined. Takes nothing. */
    async findRepeat({
      saleId,
      userId,
      idempotencyKey,
      fingerprint,
    }: Pick<ReserveRequest, 'saleId' | 'userId' | 'idempotencyKey' | 'fingerprint'>): Promise<
      Extract<ReserveOutcome, { kind: 'repeated' | 'key-reused' }> | undefined
    > {
      const { idem } = saleKeys({ saleId, shard: shardOf(userId) });
      const key = idem(userId, idempotencyKey);
      const [orderNo, earlier] = await redis.hmget(key, 'order_no', 'fingerprint');
      if (orderNo === null || orderNo === undefined) return undefined;
      return { kind: earlier === fingerprint ? 'repeated' : 'key-reused', orderNo };
    },

    /** held → sold. Idempotent. */
    confirm: (orderNo: string): Promise<HoldOutcome> =>
      run(redis, confirm, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS },
      }),

    /** held → released. Idempotent. Only after MySQL has committed the order's end. */
    release: (orderNo: string): Promise<HoldOutcome> =>
      run(redis, release, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS },
      }),

    /**
     * Holds stock for an order that was accepted before and that no store knows any more, or whose hold is
     * of an older epoch, and queues it. Idempotent.
     * @param refused MySQL has refused the hold that the order has, so Redis must have a newer epoch
     * @throws when Redis is away or full: nothing is decided
     */
    async reserveAgain(order: Order, refused?: 'lost_hold'): Promise<ReserveAgainOutcome> {
      const { orderNo, items, userId, idempotencyKey, ticket } = order;
      assertEachSkuOnce(items);
      const keys = orderKeys(orderNo);
      const outcome = await run(redis, reserveAgain, {
        keys: {
          ...keys,
          idem: keys.idem(userId, idempotencyKey),
          ticket: keys.ticket(ticket?.id ?? ''),
        },
        args: {
          ...order,
          epoch: epochOf(orderNo),
          items: JSON.stringify(items),
          shop: toShopField(order),
          ticketEndsAtMs: ticket?.endsAtMs ?? 0,
          fingerprint: fingerprintOf(order),
          idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
        },
      });
      // The rebuild has begun in MySQL, and not yet in Redis.
      const isBehind = refused && 'epoch' in outcome && outcome.epoch <= holdEpochOf(order);
      return isBehind ? { kind: 'sale-absent' } : outcome;
    },

    /**
     * Stock sold → returned, the user's allowance, or both, each once a part. Only after MySQL has committed
     * it.
     */
    giveBack: ({ orderNo, userId, part, items, limit, stock }: GiveBack): Promise<GiveBackOutcome> =>
      run(redis, giveBack, {
        keys: orderKeys(orderNo),
        args: {
          orderNo,
          epoch: epochOf(orderNo),
          userId,
          items: JSON.stringify(items),
          isLimitAsked: limit,
          isStockAsked: stock,
          part,
        },
      }),

    /** Copies a state from MySQL for pollers; an older version changes nothing. */
    async project(orderNo: string, state: OrderState): Promise<z.infer<typeof projectReply>[number]> {
      const [reply] = await projectAll([orderNo], state);
      assert(reply !== undefined, 'a reply for each order');
      return reply;
    },

    projectAll,

    /** The order as accepted and its projection; undefined when Redis does not have it (any more). */
    async readOrder(orderNo: string): Promise<ReservedOrder | undefined> {
      const hash = await redis.hgetall(orderKeys(orderNo).order);
      return hash['sale_id'] === undefined ? undefined : toReservedOrder(orderNo, hash);
    },

    /** As `readOrder`, with whether Redis can be believed; those of one moment together. */
    lookUp: createOrderLookUp(redis),

    /**
     * As `readOrder`, for orders of one sale shard in one round trip. Undefined also for what is no order
     * number, and for an order that Redis has only in part.
     */
    async readOrders(orderNos: readonly string[]): Promise<(ReservedOrder | undefined)[]> {
      const known = orderNos.filter((orderNo) => parseOrderNo(orderNo));
      // The script's JSON of no orders would be that of an object.
      if (known.length === 0) return orderNos.map(() => undefined);
      const values = await run(redis, readOrders, {
        keys: {},
        keyList: known.map((orderNo) => orderKeys(orderNo).order),
        args: {},
        repeated: ORDER_FIELDS.map((field) => ({ field })),
      });
      const found = new Map(known.map((orderNo, i) => [orderNo, toReservedOrderIfWhole(orderNo, values[i])]));
      return orderNos.map((orderNo) => found.get(orderNo));
    },
  };
}

/** What the shop adds to the order of this request. A ticket of more than one use is not spent. */
function shopDataOfRequest({ reference, metadata, ticket }: ReserveRequest): ShopData {
  return shopDataOf({
    ...(reference !== undefined && { reference }),
    ...(metadata && { metadata }),
    ...(ticket && { charges: ticket.charges }),
    ...(ticket?.isSingleUse && { ticket: { id: ticket.id, endsAtMs: ticket.endsAtMs } }),
  });
}

/**
 * Random numbers from 0 to below 1, of a byte each, for order numbers. The bytes are drawn many at a time:
 * drawn one by one, as ulidx does it, the 16 of an order number cost more than its place in Redis.
 */
function createRandom(): () => number {
  const bytes = new Uint8Array(RANDOM_BYTES);
  let next = RANDOM_BYTES;
  return () => {
    if (next === RANDOM_BYTES) {
      randomFillSync(bytes);
      next = 0;
    }
    const byte = bytes[next] ?? 0;
    next += 1;
    return byte / 256;
  };
}

/** The scripts check each line by itself, so a SKU that is named twice could slip past both checks. */
function assertEachSkuOnce(items: readonly { sku: string }[]): void {
  assert(new Set(items.map(({ sku }) => sku)).size === items.length, 'each SKU once');
}
