/**
 * An order in Redis: its hash, which has what was accepted and the projected state, and the reservation that
 * writes it.
 */

import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { monotonicFactory } from 'ulidx';
import { z } from 'zod';
import { IDEMPOTENCY_TTL_MS } from '../limits.ts';
import { isOutOfMemory, type RedisClient } from '../redis/connection.ts';
import { saleKeys, shardOf } from '../redis/keys.ts';
import { createOutboxCounts } from '../redis/outbox.ts';
import { run, type RowOf, defineScript, replyInt } from '../redis/script.ts';
import {
  jsonText,
  carriedText,
  orderStateSchema,
  type Order,
  type Carried,
  type VisibleOrder,
} from './content.ts';
import { CLOSING_REASONS, parseOrderNo, type OrderState, formatOrderNo, isFinal } from './order.ts';

/** The items of an order as `reserve` writes them. */
export const itemsJson = jsonText(
  z.array(z.object({ sku: z.string(), quantity: z.int(), unitPrice: z.int() })),
);

/** An order as MySQL has it, with its state. */
export const MYSQL_ORDER = [
  'saleId',
  'userId',
  'idempotencyKey',
  'items',
  'total',
  'currency',
  'reservedAtMs',
  'paymentWindowMs',
  'carried',
  'status',
  'version',
  'payment',
  'reason',
  'extendedUntil',
] as const;

/** An order as Redis has it. */
export interface ReservedOrder {
  order: Order;
  state: OrderState;
}

/** Not `coerce` alone, which takes what is absent for zero. */
const int = z.string().transform(Number).pipe(z.int());

/** The fields as `lua/shared/write-order.lua` writes them; `project` updates the state's. */
export const orderHash = z.object({
  sale_id: z.string(),
  user_id: z.string(),
  items: itemsJson,
  total: int,
  currency: z.string(),
  idempotency_key: z.string(),
  reserved_at: int,
  payment_window: int,
  carried: jsonText(carriedText.inRedis.schema),
  epoch: int,
  status: orderStateSchema.shape.status,
  version: int,
  payment: orderStateSchema.shape.payment,
  // Redis has no null: empty means none.
  reason: z
    .string()
    .transform((text) => (text === '' ? null : text))
    .pipe(orderStateSchema.shape.reason),
  // Absent as a rule, and read field by field then false or null: see `lua/wish-cancel.lua`.
  wish: z
    .union([z.enum(CLOSING_REASONS), z.literal(false), z.null()])
    .optional()
    .transform((wish) => wish || undefined),
  // Absent where nothing went back. Read field by field, what is absent is false or null.
  refunded: z
    .union([int, z.literal(false), z.null()])
    .optional()
    .transform((refunded) => (typeof refunded === 'number' ? refunded : 0)),
  // As above: absent where nobody has extended the deadline.
  extended_until: z
    .union([int, z.literal(false), z.null()])
    .optional()
    .transform((ms) => (typeof ms === 'number' ? ms : undefined)),
});

/** In the order in which `hashOf` takes their values. */
export const ORDER_FIELDS = Object.keys(orderHash.shape);

/** The hash of these values of `ORDER_FIELDS`. */
export function hashOf(values: readonly unknown[]): Record<string, unknown> {
  const hash: Record<string, unknown> = {};
  for (const [i, field] of ORDER_FIELDS.entries()) hash[field] = values[i];
  return hash;
}

/** What the scripts write of an order that MySQL has. */
export function toOrderFields(order: Order, state: OrderState) {
  return {
    ...order,
    ...state,
    items: JSON.stringify(order.items),
    carried: carriedText.inRedis.write(order),
    reason: state.reason ?? '',
    extendedUntil: state.extendedUntilMs ?? '',
  };
}

/** From the values of `ORDER_FIELDS`; undefined where Redis does not have it, or not whole. */
export function toReservedOrderIfWhole(
  orderNo: string,
  values: readonly unknown[] | false = false,
): ReservedOrder | undefined {
  const parsed = orderHash.safeParse(hashOf(values || []));
  return parsed.success ? fromHash(orderNo, parsed.data) : undefined;
}

/** @throws when `hash` is not as the scripts write it */
export function toReservedOrder(orderNo: string, hash: Record<string, unknown>): ReservedOrder {
  return fromHash(orderNo, orderHash.parse(hash));
}

function fromHash(orderNo: string, parsed: z.infer<typeof orderHash>): ReservedOrder {
  const { status, version, payment, refunded, extended_until: extendedUntilMs, epoch, wish } = parsed;
  // It is closing as soon as its caller was told so.
  const reason = parsed.reason ?? (wish && !isFinal(status) ? wish : null);
  const isReservedAgain = epoch !== parseOrderNo(orderNo)?.epoch;
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
      ...parsed.carried,
      ...(isReservedAgain && { holdEpoch: epoch }),
      ...(wish && { wish }),
    },
    state: {
      status,
      version,
      payment,
      reason,
      ...(refunded > 0 && { refunded }),
      ...(extendedUntilMs !== undefined && { extendedUntilMs }),
    },
  };
}

/** Open orders of one user that are kept, the newest; `lua/shared/add-open-order.lua` has the same. */
const OPEN_ORDERS_MAX = 20;

/** From the list of a user's open orders in Redis: a hand may have written anything, and a `+` is none. */
export function toOrderNos(list: string | null): string[] {
  if (list === null || list === '') return [];
  return list
    .split(' ')
    .filter((text) => parseOrderNo(text))
    .slice(-OPEN_ORDERS_MAX);
}

/** The list of a user's open orders, as the scripts write it. */
export function toOpenList(orders: readonly Pick<Order, 'orderNo' | 'reservedAtMs'>[]): string {
  const ordered = orders.toSorted((a, b) => a.reservedAtMs - b.reservedAtMs);
  return ordered
    .slice(-OPEN_ORDERS_MAX)
    .map(({ orderNo }) => orderNo)
    .join(' ');
}

/**
 * Times are Unix ms by Redis' clock, amounts minor units. The frequent replies come first: they are tried in
 * order.
 */
const reserveReply = z.union([
  z
    .tuple([z.literal('sold-out'), z.string(), replyInt, replyInt, z.string()])
    .transform(([kind, sku, available, held, open]) => ({
      kind,
      sku,
      available,
      held,
      openOrders: toOrderNos(open),
    })),
  z
    .tuple([z.literal('reserved'), z.string(), replyInt, z.string(), replyInt, replyInt, itemsJson])
    .transform(([kind, orderNo, total, currency, reservedAtMs, paymentWindowMs, items]) => ({
      kind,
      orderNo,
      total,
      currency,
      reservedAtMs,
      paymentWindowMs,
      items,
    })),
  z.tuple([z.literal('repeated'), z.string()]).transform(([kind, orderNo]) => ({ kind, orderNo })),
  z.tuple([z.literal('key-reused'), z.string()]).transform(([kind, orderNo]) => ({ kind, orderNo })),
  z
    .tuple([z.literal('limit-reached'), z.string(), replyInt, replyInt, z.string()])
    .transform(([kind, sku, limit, bought, open]) => ({
      kind,
      sku,
      limit,
      bought,
      openOrders: toOrderNos(open),
    })),
  z
    .tuple([z.literal('sale-limit-reached'), replyInt, replyInt, z.string()])
    .transform(([kind, limit, bought, open]) => ({ kind, limit, bought, openOrders: toOrderNos(open) })),
  z
    .tuple([z.literal('too-many-unpaid'), replyInt, replyInt])
    .transform(([kind, limit, unpaid]) => ({ kind, limit, unpaid })),
  z.tuple([z.literal('ticket-used'), z.string()]).transform(([kind, orderNo]) => ({ kind, orderNo })),
  z.tuple([z.enum(['ticket-required', 'ticket-expired'])]).transform(([kind]) => ({ kind })),
  z
    .tuple([z.literal('total-changed'), replyInt, z.string()])
    .transform(([kind, total, currency]) => ({ kind, total, currency })),
  z.tuple([z.literal('total-too-low'), replyInt]).transform(([kind, total]) => ({ kind, total })),
  z.tuple([z.literal('sale-absent')]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('paused')]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('not-open-yet'), replyInt]).transform(([kind, opensAtMs]) => ({ kind, opensAtMs })),
  z.tuple([z.literal('closed'), replyInt]).transform(([kind, closesAtMs]) => ({ kind, closesAtMs })),
  z.tuple([z.enum(['unknown-sku', 'called-off']), z.string()]).transform(([kind, sku]) => ({ kind, sku })),
  z.tuple([z.literal('epoch-changed'), z.string()]).transform(([kind, epoch]) => ({ kind, epoch })),
  z
    .tuple([z.literal('backlog-full'), replyInt, replyInt])
    .transform(([kind, waiting, bound]) => ({ kind, waiting, bound })),
  z
    .tuple([z.literal('memory-full'), replyInt, replyInt])
    .transform(([kind, used, bound]) => ({ kind, used, bound })),
]);

/** One an order. */
const reserveReplies = z.array(reserveReply);

export const reserveScript = defineScript({
  file: 'reserve',
  keys: ['sale', 'stock', 'limits', 'outbox', 'deadlines', 'open', 'unpaid'],
  args: ['saleId', 'idempotencyTtlMs', 'storesPerSecond', 'waitingElsewhere', 'outboxesElsewhere'],
  repeatedKeys: ['order', 'idem', 'ticket'],
  repeated: [
    'orderNo',
    'epoch',
    'userId',
    'idempotencyKey',
    'fingerprint',
    'items',
    'carried',
    'chargesTotal',
    'expectedTotal',
    'ticketEndsAtMs',
    'isSingleUse',
  ],
  reply: reserveReplies,
});

export type ReserveReply = z.infer<typeof reserveReplies>[number];

/** An order to be reserved, in a sale shard. */
interface Purchase {
  saleId: string;
  /** Of the sale shard. */
  keys: ReturnType<typeof saleKeys>;
  row: RowOf<typeof reserveScript>;
  /** Of its cart. */
  lines: number;
}

interface Asker {
  purchase: Purchase;
  resolve: (reply: ReserveReply) => void;
  reject: (error: unknown) => void;
}

/** Those of one turn and one sale, so far. */
interface Gathering {
  askers: Asker[];
  /** Of all their carts. */
  lines: number;
}

/** Orders of one call, which keeps all others from Redis for about a millisecond. */
const ORDERS_MAX = 64;
/** Lines of all their carts, because the script's work grows with them. */
const LINES_MAX = 128;

/**
 * Purchases of one turn of the event loop share a call, so that Redis reads their sale, proves its server and
 * counts the backlog once for all of them. A call waits for none before it.
 */
function createReserveTogether(redis: RedisClient, { storesPerSecond }: { storesPerSecond: number }) {
  const outboxes = createOutboxCounts(redis);
  /** By the key of their sale. */
  const gatherings = new Map<string, Gathering>();

  async function call(askers: readonly Asker[]): Promise<void> {
    const [first] = askers;
    assert(first, 'a call is for an order at least');
    const { saleId, keys } = first.purchase;
    const elsewhere = outboxes.countWithout(keys.outbox);
    try {
      const replies = await run(redis, reserveScript, {
        keys,
        args: {
          saleId,
          idempotencyTtlMs: IDEMPOTENCY_TTL_MS,
          storesPerSecond,
          waitingElsewhere: elsewhere.orders,
          outboxesElsewhere: elsewhere.outboxes,
        },
        repeated: askers.map(({ purchase }) => purchase.row),
      });
      assert.equal(replies.length, askers.length, 'a reply for each order');
      for (const [i, reply] of replies.entries()) askers[i]?.resolve(reply);
    } catch (error) {
      if (askers.length === 1 || isOutOfMemory(error)) {
        for (const { reject } of askers) reject(error);
      } else {
        // The answer is lost, or one of the orders fails. Each is known by its orderNo where it was taken.
        for (const asker of askers) void call([asker]);
      }
    }
  }

  function send(sale: string, gathering: Gathering): void {
    // One that was full is sent already.
    if (gatherings.get(sale) !== gathering) return;
    gatherings.delete(sale);
    void call(gathering.askers);
  }

  function gather(sale: string): Gathering {
    const gathering: Gathering = { askers: [], lines: 0 };
    gatherings.set(sale, gathering);
    setImmediate(() => send(sale, gathering));
    return gathering;
  }

  /** @throws when the answer is unknown, also after the order was sent again by itself; when Redis is full */
  return async function reserveTogether(purchase: Purchase): Promise<ReserveReply> {
    const { sale } = purchase.keys;
    return new Promise((resolve, reject) => {
      let gathering = gatherings.get(sale) ?? gather(sale);
      if (gathering.lines > 0 && gathering.lines + purchase.lines > LINES_MAX) {
        send(sale, gathering);
        gathering = gather(sale);
      }
      gathering.askers.push({ purchase, resolve, reject });
      gathering.lines += purchase.lines;
      if (gathering.askers.length === ORDERS_MAX) send(sale, gathering);
    });
  };
}

/** A ticket that was found authentic, and of this user and sale. */
export interface AcceptedTicket {
  /** A digest that no other ticket has. */
  id: string;
  /** Unix time in ms from which it is refused. */
  endsAtMs: number;
  isSingleUse: boolean;
  /** It is ours: worked for, and of single use. */
  isOfWork?: true;
  /** Lines that add to the total; none: empty. */
  charges: NonNullable<Carried['charges']>;
}

export interface ReserveRequest extends Omit<Carried, 'charges' | 'ticket'> {
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
}

/** The answer to a shopper's request; see `lua/reserve.lua`. */
export type ReserveOutcome =
  | Exclude<ReserveReply, { kind: 'epoch-changed' | 'reserved' }>
  | ({ kind: 'reserved' } & VisibleOrder)
  /**
   * Redis is at maxmemory. The script did not run and took nothing (an earlier send, cut off, may have taken
   * it).
   */
  | { kind: 'store-full' };

/** Sales whose epoch is remembered; a process meets far fewer, and forgetting one costs one read. */
const REMEMBERED_SALES_MAX = 1_000;
/** Random bytes drawn at a time: 256 order numbers' worth. */
const RANDOM_BYTES = 4_096;
/** The epoch changes when Redis is rebuilt, not twice within one request. */
const EPOCH_TRIES = 3;

/**
 * @param storesPerSecond orders that MySQL stores per second, all workers together; bounds the outboxes.
 */
export function createReserve(redis: RedisClient, options: { storesPerSecond: number }) {
  const reserveTogether = createReserveTogether(redis, options);
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

  function callReserve(
    request: ReserveRequest,
    carried: Carried,
    shard: number,
    epoch: string,
  ): Promise<ReserveReply> {
    const { saleId, userId, idempotencyKey, items } = request;
    const orderNo = formatOrderNo({ saleId, shard, epoch: Number(epoch), ulid: nextUlid() });
    const keys = saleKeys({ saleId, shard });
    const { ticket, expectedTotal = '' } = request;
    const row = {
      order: keys.order(orderNo),
      idem: keys.idem(userId, idempotencyKey),
      ticket: keys.ticket(ticket?.id ?? ''),
      orderNo,
      epoch,
      userId,
      idempotencyKey,
      fingerprint: request.fingerprint,
      items: JSON.stringify(items.map(({ sku, quantity }) => ({ sku, quantity }))),
      carried: carriedText.inRedis.write(carried),
      chargesTotal: (ticket?.charges ?? []).reduce((sum, { amount }) => sum + amount, 0),
      expectedTotal,
      ticketEndsAtMs: ticket?.endsAtMs ?? 0,
      isSingleUse: ticket?.isOfWork ? 2 : (ticket?.isSingleUse ?? false),
    };
    return reserveTogether({ saleId, keys, row, lines: items.length });
  }

  async function tryReserve(request: ReserveRequest): Promise<ReserveOutcome> {
    const shard = shardOf(request.userId);
    const carried = carriedOf(request);
    for (let attempt = 0; attempt < EPOCH_TRIES; attempt += 1) {
      // Without a sale no order number can be made; the script would answer the same.
      const epoch = epochs.get(request.saleId) ?? (await readEpoch(request.saleId, shard));
      if (epoch === null) return { kind: 'sale-absent' };
      const reply = await callReserve(request, carried, shard, epoch);
      // Redis had the sale, so it has lost it, and will have it again.
      if (reply.kind === 'sale-absent') return { kind: 'paused' };
      // V8 makes a slow object of two that are spread: that took 4.2 us here, and this 0.2.
      if (reply.kind === 'reserved') return Object.assign({}, carried, reply);
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
      assertEachSkuOnce(request.items);
      assertWholeUnits(request.items);
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
  };
}

/** The request with what its order carries. A ticket of more than one use is not spent. */
function carriedOf({ ticket, ...request }: ReserveRequest): Carried & Pick<Order, 'saleId'> {
  if (!ticket) return request;
  const { charges, isSingleUse, id, endsAtMs } = ticket;
  return { ...request, charges, ...(isSingleUse && { ticket: { id, endsAtMs } }) };
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

/** A part of a unit would fail in the script after its first write. */
function assertWholeUnits(items: readonly { quantity: number }[]): void {
  assert(
    items.every(({ quantity }) => Number.isSafeInteger(quantity)),
    'whole units',
  );
}

/** The scripts check each line by itself, so a SKU that is named twice could slip past both checks. */
export function assertEachSkuOnce(items: readonly { sku: string }[]): void {
  assert(new Set(items.map(({ sku }) => sku)).size === items.length, 'each SKU once');
}
