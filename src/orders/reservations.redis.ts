/**
 * Holds and projections in Redis: takes stock for an order, sells it, gives it back, and shows the order's
 * state.
 */

import assert from 'node:assert/strict';
import { z } from 'zod';
import { BROUGHT_BACK_WITHIN_MS, IDEMPOTENCY_TTL_MS, PROJECTION_TTL_MS } from '../limits.ts';
import type { RedisClient } from '../redis/connection.ts';
import { changesChannelOf, epochOf, orderKeys, saleKeys, shardOf } from '../redis/keys.ts';
import { acknowledge, lookAtOutbox } from '../redis/outbox.ts';
import { run, defineScript, isDamaged, replyInt } from '../redis/script.ts';
import { fingerprintOf, carriedText, type Order, jsonText } from './content.ts';
import {
  type ClosingReason,
  holdEpochOf,
  parseOrderNo,
  type GiveBack,
  type OrderChange,
  type OrderState,
} from './order.ts';
import {
  hashOf,
  ORDER_FIELDS,
  toOrderNos,
  toReservedOrder,
  type ReservedOrder,
  toReservedOrderIfWhole,
  assertEachSkuOnce,
  createReserve,
} from './reserve.redis.ts';

/** The state of a hold, or why it was not changed. */
const holdReply = z
  .tuple([z.enum(['sold', 'released', 'returned', 'absent', 'lost', 'sale-absent'])])
  .transform(([state]) => state);

const reserveAgainReply = z.union([
  z.tuple([z.enum(['sale-absent', 'too-late'])]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('reserved'), replyInt]).transform(([kind, epoch]) => ({ kind, epoch })),
  z
    .tuple([z.literal('known'), z.enum(['held', 'sold', 'released', 'returned', 'absent']), replyInt])
    .transform(([kind, hold, epoch]) => ({ kind, hold, epoch })),
  z.tuple([z.enum(['unknown-sku', 'sold-out']), z.string()]).transform(([kind, sku]) => ({ kind, sku })),
]);

const giveBackReply = z.union([
  z.tuple([z.enum(['returned', 'held', 'released', 'sale-absent'])]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('not-sold'), z.string()]).transform(([kind, sku]) => ({ kind, sku })),
]);

/** For each order the values of its fields, not judged yet; false for an order that is no hash. */
const ordersJson = jsonText(
  z.array(z.custom<unknown[] | false>((value) => value === false || Array.isArray(value))),
);

/** With the sale's epoch where Redis can be believed about it. */
const lookUpOrdersReply = z.union([
  z.tuple([z.literal('certain'), replyInt, ordersJson]).transform(([, epoch, orders]) => ({ epoch, orders })),
  z.tuple([z.literal('doubtful'), ordersJson]).transform(([, orders]) => ({ epoch: undefined, orders })),
]);

/** One an order. */
export const projectReply = z.array(z.enum(['projected', 'stale', 'wished', 'absent']));

export const reserveAgainScript = defineScript({
  file: 'reserve-again',
  keys: [
    'sale',
    'stock',
    'limits',
    'order',
    'idem',
    'outbox',
    'deadlines',
    'restored',
    'ticket',
    'moves',
    'open',
  ],
  args: [
    'orderNo',
    'epoch',
    'saleId',
    'userId',
    'idempotencyKey',
    'fingerprint',
    'idempotencyTtlMs',
    'items',
    'total',
    'currency',
    'reservedAtMs',
    'paymentWindowMs',
    'carried',
    'ticketEndsAtMs',
    'lostEpoch',
    'lateAfterMs',
  ],
  reply: reserveAgainReply,
});

export const confirmScript = defineScript({
  file: 'confirm',
  keys: ['order', 'stock', 'deadlines', 'sale', 'moves', 'open', 'free'],
  args: ['orderNo', 'epoch', 'projectionTtlMs'],
  reply: holdReply,
});

export const releaseScript = defineScript({
  file: 'release',
  keys: ['order', 'stock', 'limits', 'deadlines', 'sale', 'moves', 'open', 'unpaid'],
  args: ['orderNo', 'epoch', 'projectionTtlMs', 'isUnpaid'],
  reply: holdReply,
});

export const giveBackScript = defineScript({
  file: 'give-back',
  keys: ['order', 'stock', 'limits', 'returns', 'sale'],
  args: ['orderNo', 'epoch', 'userId', 'items', 'isLimitAsked', 'isStockAsked', 'part'],
  reply: giveBackReply,
});

export const projectScript = defineScript({
  file: 'project',
  keys: ['deadlines', 'moves', 'changes'],
  keyList: 'order',
  args: ['version', 'status', 'payment', 'reason', 'refunded', 'extendedUntil'],
  repeated: ['orderNo'],
  reply: projectReply,
});

const wishReply = z
  .tuple([z.enum(['wished', 'stored', 'ended', 'absent'])])
  .transform(([outcome]) => outcome);

export const wishCancelScript = defineScript({
  file: 'wish-cancel',
  keys: ['order'],
  args: ['reason'],
  reply: wishReply,
});

export const lookUpOrdersScript = defineScript({
  file: 'look-up-orders',
  keys: ['sale'],
  keyList: 'order',
  args: [],
  repeated: ['field'],
  reply: lookUpOrdersReply,
});

/**
 * What Redis has of an order. Uncertain: it may be older than what was answered before, or missing although
 * the order was accepted, because Redis started again or another took over.
 */
export interface OrderLook {
  found: ReservedOrder | undefined;
  isCertain: boolean;
}

/** Orders of one call, which keeps all others from Redis for an eighth of a millisecond. */
const TOGETHER_MAX = 16;

/** Someone who waits for an order. */
interface Asker {
  orderNo: string;
  orderKey: string;
  resolve: (look: OrderLook) => void;
  reject: (error: unknown) => void;
}

/**
 * Those who ask within one turn of the event loop share a call: Redis proves once for all of them that it is
 * the server that the sale's data were made on, and the cost of a call is shared too. The call is made after
 * all of them have asked, so no answer is older than its question.
 */
function createOrderLookUp(redis: RedisClient) {
  /** By the key of their sale. */
  const askers = new Map<string, Asker[]>();

  async function askTogether(sale: string): Promise<void> {
    const together = askers.get(sale) ?? [];
    askers.delete(sale);
    if (together.length === 0) return;
    try {
      const { epoch, orders } = await run(redis, lookUpOrdersScript, {
        keys: { sale },
        keyList: together.map(({ orderKey }) => orderKey),
        args: {},
        repeated: FIELDS,
      });
      for (const [i, asker] of together.entries()) answer(asker, orders[i] ?? false, epoch);
    } catch (error) {
      for (const { reject } of together) reject(error);
    }
  }

  /** @throws where Redis does not answer, or has something else than an order */
  return async function lookUp(orderNo: string): Promise<OrderLook> {
    const { sale, order: orderKey } = orderKeys(orderNo);
    return new Promise((resolve, reject) => {
      const together = askers.get(sale) ?? [];
      if (together.push({ orderNo, orderKey, resolve, reject }) === 1) {
        askers.set(sale, together);
        setImmediate(() => void askTogether(sale));
      }
      if (together.length === TOGETHER_MAX) void askTogether(sale);
    });
  };
}

const FIELDS = ORDER_FIELDS.map((field) => ({ field }));
const [SALE_ID, EPOCH] = [ORDER_FIELDS.indexOf('sale_id'), ORDER_FIELDS.indexOf('epoch')];

/**
 * @param values false: what Redis has is no order
 * @param epoch of the sale; undefined: the server is not the one that its data were made on
 */
function answer(
  { orderNo, resolve, reject }: Asker,
  values: readonly unknown[] | false,
  epoch?: number,
): void {
  try {
    if (!values) throw new SyntaxError(`what Redis has is no order: ${orderNo}`);
    const found = values[SALE_ID] ? toReservedOrder(orderNo, hashOf(values)) : undefined;
    resolve({ found, isCertain: Number(values[EPOCH] || epochOf(orderNo)) === epoch });
  } catch (error) {
    reject(error);
  }
}

/** Orders read whole by one script: about two milliseconds of Redis. */
const READ_AT_ONCE = 250;
/** Orders that one script projects: as long. */
const PROJECTED_AT_ONCE = 500;

export type { ReservedOrder } from './reserve.redis.ts';

/** What `confirm` and `release` found; see `lua/confirm.lua`. */
export type HoldOutcome = z.infer<typeof holdReply>;

/** See `lua/reserve-again.lua`. */
export type ReserveAgainOutcome = z.infer<typeof reserveAgainReply>;

/** See `lua/give-back.lua`. Only `held` can become another outcome later. */
type GiveBackOutcome = z.infer<typeof giveBackReply>;

export type Reservations = ReturnType<typeof createReservations>;

/**
 * @param storesPerSecond orders that MySQL stores per second, all workers together; bounds the outboxes.
 */
export function createReservations(redis: RedisClient, options: { storesPerSecond: number }) {
  /** As `project`, for orders of one sale shard that have the same state, in one round trip. */
  async function projectAll(
    orderNos: readonly string[],
    state: OrderState,
  ): Promise<z.infer<typeof projectReply>> {
    const [first] = orderNos;
    if (first === undefined) return [];
    const keys = { ...orderKeys(first), changes: changesChannelOf(first) };
    const replies = await Promise.all(
      pagesOf(orderNos, PROJECTED_AT_ONCE).map((page) =>
        run(redis, projectScript, {
          keys,
          keyList: page.map((orderNo) => orderKeys(orderNo).order),
          // Redis has no null: empty means none.
          args: {
            ...state,
            reason: state.reason ?? '',
            refunded: state.refunded ?? 0,
            extendedUntil: state.extendedUntilMs ?? '',
          },
          repeated: state.extendedUntilMs === undefined ? [] : page.map((orderNo) => ({ orderNo })),
        }),
      ),
    );
    return replies.flat();
  }

  /** The fields of orders of one sale shard, in their order; false for what is no hash. */
  async function readValues(
    orderNos: readonly string[],
    fields: readonly string[],
  ): Promise<(unknown[] | false)[]> {
    const [first] = orderNos;
    if (first === undefined) return [];
    const read = (page: readonly string[]) =>
      run(redis, lookUpOrdersScript, {
        keys: orderKeys(first),
        keyList: page.map((orderNo) => orderKeys(orderNo).order),
        args: {},
        repeated: fields.map((field) => ({ field })),
      });
    const pages = await Promise.all(pagesOf(orderNos, READ_AT_ONCE).map(read));
    return pages.flatMap(({ orders }) => orders);
  }

  return {
    ...createReserve(redis, options),

    /** held → sold. Idempotent. */
    confirm: (orderNo: string): Promise<HoldOutcome> =>
      run(redis, confirmScript, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS },
      }),

    /**
     * held → released. Idempotent. Only after MySQL has committed the order's end.
     * @param isUnpaid it counts as one that its user left unpaid; see `isLeftUnpaid`
     */
    release: (orderNo: string, isUnpaid = false): Promise<HoldOutcome> =>
      run(redis, releaseScript, {
        keys: orderKeys(orderNo),
        args: { orderNo, epoch: epochOf(orderNo), projectionTtlMs: PROJECTION_TTL_MS, isUnpaid },
      }),

    /**
     * Holds stock for an order that was accepted before and that no store knows any more, or whose hold is
     * of an older epoch, and queues it. Idempotent.
     * @param lostHold MySQL has refused the hold that the order has, so Redis must have a newer epoch.
     *   `knownForMs`: for how long Temporal has known the order, which is not answered as lost meanwhile.
     *   Without `lostHold` an order may also come back that was answered as lost, as its money does
     * @throws when Redis is away or full: nothing is decided
     */
    async reserveAgain(order: Order, lostHold?: { knownForMs: number }): Promise<ReserveAgainOutcome> {
      const { orderNo, items, userId, idempotencyKey, ticket } = order;
      assertEachSkuOnce(items);
      const keys = orderKeys(orderNo);
      const outcome = await run(redis, reserveAgainScript, {
        keys: {
          ...keys,
          idem: keys.idem(userId, idempotencyKey),
          ticket: keys.ticket(ticket?.id ?? ''),
        },
        args: {
          ...order,
          epoch: epochOf(orderNo),
          items: JSON.stringify(items),
          carried: carriedText.inRedis.write(order),
          ticketEndsAtMs: ticket?.endsAtMs ?? 0,
          lostEpoch: holdEpochOf(order),
          lateAfterMs: lostHold ? BROUGHT_BACK_WITHIN_MS + lostHold.knownForMs : '',
          fingerprint: fingerprintOf(order),
          idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
        },
      });
      // The rebuild has begun in MySQL, and not yet in Redis.
      const isBehind = lostHold && 'epoch' in outcome && outcome.epoch <= holdEpochOf(order);
      return isBehind ? { kind: 'sale-absent' } : outcome;
    },

    /**
     * Stock sold → returned, the user's allowance, or both, each once a part. Only after MySQL has committed
     * it.
     */
    giveBack: ({ orderNo, userId, part, items, limit, stock }: GiveBack): Promise<GiveBackOutcome> =>
      run(redis, giveBackScript, {
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

    /** Notes that its caller wants an order cancelled that is not stored yet. Idempotent. */
    wishCancel: (orderNo: string, reason: ClosingReason): Promise<z.infer<typeof wishReply>> =>
      run(redis, wishCancelScript, { keys: orderKeys(orderNo), args: { reason } }),

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
     * A user's open orders of a sale, those in Redis alone among them: the newest 20, the oldest first.
     * @returns `isWhole`: no other is open and waits to be stored, as far as this Redis can be believed
     * @throws where Redis does not answer
     */
    async readOpenOrders(saleId: string, userId: string): Promise<{ orderNos: string[]; isWhole: boolean }> {
      const shard = { saleId, shard: shardOf(userId) };
      const keys = saleKeys(shard);
      // The lists of all users are a hash, too.
      const { epoch, orders } = await run(redis, lookUpOrdersScript, {
        keys,
        keyList: [keys.open],
        args: {},
        repeated: [{ field: userId }],
      });
      const [list] = orders[0] || [];
      const text = typeof list === 'string' ? list : '';
      // Those that went from the list are stored once nothing waits that was accepted before the last went.
      const oldestAtMs = text.startsWith('+') ? (await lookAtOutbox(redis, shard))?.oldestAtMs : undefined;
      const isStored = oldestAtMs === undefined || oldestAtMs > Number.parseInt(text.slice(1));
      return { orderNos: toOrderNos(text), isWhole: epoch !== undefined && orders[0] !== false && isStored };
    },

    /** When the order was accepted that waits longest beside this user's (Unix ms); undefined: none waits. */
    async readOldestWaitingMs(saleId: string, userId: string): Promise<number | undefined> {
      return (await lookAtOutbox(redis, { saleId, shard: shardOf(userId) }))?.oldestAtMs;
    },

    /**
     * As `readOrder`, for orders of one sale shard in one round trip. Undefined also for what is no order
     * number, and for an order that Redis has only in part or as another type.
     */
    async readOrders(orderNos: readonly string[]): Promise<(ReservedOrder | undefined)[]> {
      const known = orderNos.filter((orderNo) => parseOrderNo(orderNo));
      const values = await readValues(known, ORDER_FIELDS);
      const found = new Map(known.map((orderNo, i) => [orderNo, toReservedOrderIfWhole(orderNo, values[i])]));
      return orderNos.map((orderNo) => found.get(orderNo));
    },

    /** Those of these orders, of one sale shard, that Redis has whole, each with its outbox entry. */
    async readWithEntries(orderNos: readonly string[]): Promise<(ReservedOrder & { entryId: string })[]> {
      const values = await readValues(orderNos, [...ORDER_FIELDS, 'entry']);
      return orderNos.flatMap((orderNo, i) => {
        const [of, entryId] = [values[i], (values[i] || []).at(-1)];
        const reserved = toReservedOrderIfWhole(orderNo, of);
        return reserved ? [{ ...reserved, entryId: typeof entryId === 'string' ? entryId : '' }] : [];
      });
    },

    /**
     * Takes the entries of these orders, of one sale shard, off the outbox; only once the orders are durable
     * elsewhere.
     */
    async takeOffOutbox(entries: readonly { order: Order; entryId: string }[]): Promise<void> {
      const [first] = entries;
      const saleShard = first && parseOrderNo(first.order.orderNo);
      const entryIds = entries.flatMap(({ entryId }) => entryId || []);
      if (saleShard) await acknowledge(redis, saleShard, entryIds);
    },
  };
}

function pagesOf(orderNos: readonly string[], pageSize: number): string[][] {
  const count = Math.ceil(orderNos.length / pageSize);
  return Array.from({ length: count }, (_, i) => orderNos.slice(i * pageSize, (i + 1) * pageSize));
}

type ProjectReply = z.infer<typeof projectReply>[number];

/**
 * @returns each with its reply, in no order. damaged: Redis cannot work on the order, which holds up no other
 * @throws when Redis is away
 */
export async function projectChanges<T extends OrderChange>(
  reservations: Pick<Reservations, 'projectAll'>,
  changes: readonly T[],
): Promise<{ change: T; reply: ProjectReply | 'damaged' }[]> {
  const projectAlike = async (alike: readonly [T, ...T[]]): Promise<(ProjectReply | 'damaged')[]> => {
    const orderNos = alike.map(({ orderNo }) => orderNo);
    try {
      return await reservations.projectAll(orderNos, alike[0].state);
    } catch (error) {
      if (!isDamaged(error)) throw error;
      if (alike.length === 1) return ['damaged'];
      return (await Promise.all(alike.map((one) => projectAlike([one])))).flat();
    }
  };
  const groups = await Promise.all(
    groupAlike(changes).map(async (alike) => {
      const replies = await projectAlike(alike);
      return alike.map((change, i) => ({ change, reply: replies[i] ?? ('absent' as const) }));
    }),
  );
  return groups.flat();
}

/** Of orders that were stored just now it is nearly always one group. */
function groupAlike<T extends OrderChange>(changes: readonly T[]): [T, ...T[]][] {
  const groups = new Map<string, [T, ...T[]]>();
  for (const change of changes) {
    const { status, version, payment, reason, refunded, extendedUntilMs } = change.state;
    const money = `${payment} ${refunded}`;
    const key = `${orderKeys(change.orderNo).sale} ${status} ${version} ${money} ${reason} ${extendedUntilMs}`;
    const group = groups.get(key);
    if (group) group.push(change);
    else groups.set(key, [change]);
  }
  return [...groups.values()];
}
