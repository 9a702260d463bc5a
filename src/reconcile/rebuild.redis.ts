/**
 * Makes a sale's data in Redis again: each write is fenced by the epoch of its rebuild, so that one that was
 * overtaken, or whose server was replaced meanwhile, changes nothing.
 */

import { z } from 'zod';
import { IDEMPOTENCY_TTL_MS, PROJECTION_TTL_MS } from '../limits.ts';
import { fingerprintOf, type Order } from '../orders/content.ts';
import { orderDeadlineMs, parseOrderNo, type OrderState } from '../orders/order.ts';
import { toOpenList, toOrderFields, MYSQL_ORDER } from '../orders/reserve.redis.ts';
import type { RedisClient } from '../redis/connection.ts';
import { epochOf, limitField, orderKeys, returnMark, saleKeys, wholeSale } from '../redis/keys.ts';
import { registerSales } from '../redis/outbox.ts';
import { run, defineScript, replyInt } from '../redis/script.ts';
import type { Sale, StockCount } from '../sales/sale.ts';
import { saleFields } from '../sales/stock.redis.ts';

/** Of the steps of a rebuild. */
export const stateReply = <const T extends string>(...states: readonly T[]) =>
  z.tuple([z.enum(states)]).transform(([state]) => state);

export const suspendReply = stateReply('suspended', 'sale-absent');

export const rebuildBeginReply = stateReply('begun', 'moving', 'superseded');

export const rebuildWriteReply = stateReply('written', 'superseded');

export const rebuildEndReply = stateReply('resumed', 'superseded');

export const expireVoidReply = stateReply('expires', 'kept', 'damaged');

/** The number of keys that were removed. */
export const rebuildCleanReply = z.union([
  z.tuple([z.literal('cleaned'), replyInt]).transform(([, removed]) => removed),
  z.tuple([z.literal('superseded')]).transform(([state]) => state),
]);

export const suspendScript = defineScript({ file: 'suspend', keys: ['sale'], args: [], reply: suspendReply });

export const rebuildBeginScript = defineScript({
  file: 'rebuild-begin',
  keys: ['sale', 'limits', 'deadlines', 'restored', 'returns', 'void', 'outbox', 'damaged', 'open', 'unpaid'],
  args: ['epoch', 'movedMax'],
  reply: rebuildBeginReply,
});

export const rebuildCleanScript = defineScript({
  file: 'rebuild-clean',
  keys: ['sale'],
  keyList: 'target',
  args: ['epoch'],
  reply: rebuildCleanReply,
});

export const rebuildOrderScript = defineScript({
  file: 'rebuild-order',
  keys: ['sale', 'order'],
  args: ['epoch', ...MYSQL_ORDER],
  reply: rebuildWriteReply,
});

export const rebuildWriteScript = defineScript({
  file: 'rebuild-write',
  keys: ['sale', 'target'],
  args: ['epoch', 'type', 'expiresAtMs'],
  repeated: ['field', 'value'],
  reply: rebuildWriteReply,
});

export const rebuildEndScript = defineScript({
  file: 'rebuild-end',
  keys: ['sale', 'stock'],
  args: ['epoch', 'undecidedFrom'],
  repeated: ['hash', 'field', 'value'],
  reply: rebuildEndReply,
});

export const expireVoidScript = defineScript({
  file: 'expire-void',
  keys: ['sale', 'order', 'void', 'outbox', 'damaged'],
  args: ['orderNo', 'epoch', 'ttlMs', 'isStored'],
  reply: expireVoidReply,
});

/** Rows of one script, so that it takes a millisecond or two. */
const ROWS_AT_ONCE = 500;

/** Another rebuild has begun since, or another server has taken over: this one has nothing more to do. */
export class SupersededError extends Error {
  override name = 'SupersededError';
}

/** An order that is open in MySQL. */
export interface OpenOrder {
  order: Order;
  state: OrderState;
}

/** A request whose repeat is to find its order. */
export type KnownRequest = Pick<
  Order,
  'orderNo' | 'saleId' | 'userId' | 'idempotencyKey' | 'items' | 'reference' | 'metadata' | 'reservedAtMs'
>;

/** Units that count against a user's limit. */
export interface UsedLimit {
  sku: string;
  userId: string;
  units: number;
}

/** By user. */
export interface UsersHolds {
  open: ReadonlyMap<string, readonly Pick<Order, 'orderNo' | 'reservedAtMs'>[]>;
  unpaid: ReadonlyMap<string, number>;
}

/** What a rebuild puts in place at its end. */
export interface RebuiltSale {
  sale: Sale;
  /** Of its last change. */
  changeNo: number;
  changeId: string;
  stock: StockCount[];
  /** The first epoch whose orders nobody was told as lost. */
  undecidedFrom: number;
}

type Row = { field: string; value: string | number };

const keysOf = (saleId: string) => saleKeys(wholeSale(saleId));

/** @throws SupersededError */
function assertNotSuperseded(reply: unknown): void {
  if (reply === 'superseded') throw new SupersededError('a newer rebuild has begun, or Redis is another one');
}

async function write(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  target: string,
  type: 'hash' | 'set' | 'sorted-set',
  rows: readonly Row[],
  expiresAtMs = 0,
): Promise<void> {
  for (let from = 0; from < rows.length; from += ROWS_AT_ONCE) {
    const reply = await run(redis, rebuildWriteScript, {
      keys: { sale: keysOf(saleId).sale, target },
      args: { epoch, type, expiresAtMs },
      repeated: rows.slice(from, from + ROWS_AT_ONCE),
    });
    assertNotSuperseded(reply);
  }
}

async function writeOrder(redis: RedisClient, epoch: number, { order, state }: OpenOrder): Promise<void> {
  const reply = await run(redis, rebuildOrderScript, {
    keys: orderKeys(order.orderNo),
    args: {
      ...toOrderFields(order, state),
      epoch,
    },
  });
  assertNotSuperseded(reply);
}

/** Pauses the sale, where Redis has it; orders that wait are still stored. Idempotent. */
export function suspend(redis: RedisClient, saleId: string) {
  return run(redis, suspendScript, { keys: keysOf(saleId), args: {} });
}

/** The number of accepted orders that wait in the sale's outbox; none in one that is damaged. */
export async function countWaiting(redis: RedisClient, saleId: string): Promise<number> {
  const { outbox } = keysOf(saleId);
  return (await redis.type(outbox)) === 'stream' ? redis.xlen(outbox) : 0;
}

/**
 * Removes what is to be made again. From here on no hold begins or ends.
 * @throws SupersededError
 */
export async function begin(redis: RedisClient, saleId: string, epoch: number): Promise<void> {
  // A relay that does not know the sale would leave its orders in the outbox.
  await registerSales(redis, [wholeSale(saleId)]);
  const call = { keys: keysOf(saleId), args: { epoch, movedMax: ROWS_AT_ONCE } };
  // Each call takes some holds off the list, so the list becomes empty.
  for (let state; state !== 'begun';) {
    state = await run(redis, rebuildBeginScript, call);
    assertNotSuperseded(state);
  }
}

/**
 * Makes room for what MySQL has of these orders, where something else is in its place.
 * @returns how many keys were removed
 * @throws SupersededError
 */
export async function clean(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  orders: readonly Pick<Order, 'orderNo' | 'userId' | 'idempotencyKey' | 'ticket'>[],
): Promise<number> {
  const { sale, order, idem, ticket } = keysOf(saleId);
  const targets = orders.flatMap((of) => [
    order(of.orderNo),
    ...(of.idempotencyKey === '' ? [] : [idem(of.userId, of.idempotencyKey)]),
    ...(of.ticket ? [ticket(of.ticket.id)] : []),
  ]);
  let removed = 0;
  for (let from = 0; from < targets.length; from += ROWS_AT_ONCE) {
    const keyList = targets.slice(from, from + ROWS_AT_ONCE);
    const reply = await run(redis, rebuildCleanScript, { keys: { sale }, keyList, args: { epoch } });
    assertNotSuperseded(reply);
    if (reply !== 'superseded') removed += reply;
  }
  return removed;
}

/** Writes the holds, projections and deadlines of open orders. @throws SupersededError */
export async function writeOrders(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  orders: readonly OpenOrder[],
): Promise<void> {
  await Promise.all(orders.map((open) => writeOrder(redis, epoch, open)));
  const rows = orders.map(({ order, state }) => ({
    field: order.orderNo,
    value: orderDeadlineMs(order, state),
  }));
  await write(redis, saleId, epoch, keysOf(saleId).deadlines, 'sorted-set', rows);
}

/** Writes the idempotency entries that have not expired. @throws SupersededError */
export async function writeRequests(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  requests: readonly KnownRequest[],
): Promise<void> {
  const { idem } = keysOf(saleId);
  await Promise.all(
    requests.map((request) => {
      const { orderNo, userId, idempotencyKey, reservedAtMs } = request;
      const rows = [
        { field: 'order_no', value: orderNo },
        { field: 'fingerprint', value: fingerprintOf(request) },
      ];
      const endMs = reservedAtMs + IDEMPOTENCY_TTL_MS;
      return write(redis, saleId, epoch, idem(userId, idempotencyKey), 'hash', rows, endMs);
    }),
  );
}

/** Writes the tickets of single use that orders have spent, until they expire. @throws SupersededError */
export async function writeTickets(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  spent: readonly (NonNullable<Order['ticket']> & { orderNo: string })[],
): Promise<void> {
  const { ticket } = keysOf(saleId);
  await Promise.all(
    spent.map(({ id, endsAtMs, orderNo }) =>
      write(redis, saleId, epoch, ticket(id), 'hash', [{ field: 'order_no', value: orderNo }], endsAtMs),
    ),
  );
}

/** Writes what users have of each SKU. @throws SupersededError */
export function writeLimits(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  limits: readonly UsedLimit[],
): Promise<void> {
  return write(
    redis,
    saleId,
    epoch,
    keysOf(saleId).limits,
    'hash',
    limits.map(({ sku, userId, units }) => ({ field: limitField(sku, userId), value: units })),
  );
}

/** Writes the open orders of users, and how many holds they left unpaid. @throws SupersededError */
export async function writeUsers(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  { open, unpaid }: UsersHolds,
): Promise<void> {
  const keys = keysOf(saleId);
  const lists = [...open].map(([field, orderNos]) => ({ field, value: toOpenList(orderNos) }));
  await write(redis, saleId, epoch, keys.open, 'hash', lists);
  const counts = [...unpaid].map(([field, value]) => ({ field, value }));
  await write(redis, saleId, epoch, keys.unpaid, 'hash', counts);
}

/** Writes the marks of what has gone back of refunded orders. @throws SupersededError */
export function writeReturns(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  returns: readonly { orderNo: string; what: 'stock' | 'limit'; part: string }[],
): Promise<void> {
  return write(
    redis,
    saleId,
    epoch,
    keysOf(saleId).returns,
    'set',
    returns.map(({ orderNo, what, part }) => ({ field: returnMark(orderNo, what, part), value: '' })),
  );
}

/** Puts rules and stock in place, and lets the sale go on. @throws SupersededError */
export async function end(
  redis: RedisClient,
  saleId: string,
  epoch: number,
  { sale, changeNo, changeId, stock, undecidedFrom }: RebuiltSale,
): Promise<void> {
  const change = { change_no: changeNo, ...(changeId !== '' && { change_id: changeId }) };
  const rules = Object.entries({ ...saleFields(sale), ...change }).map(([field, value]) => ({
    hash: 'sale',
    field,
    value,
  }));
  const counts = stock.flatMap(({ sku, ...units }) =>
    Object.entries(units).map(([field, value]) => ({ hash: 'stock', field: `${sku}:${field}`, value })),
  );
  const reply = await run(redis, rebuildEndScript, {
    keys: keysOf(saleId),
    args: { epoch, undecidedFrom },
    repeated: [...rules, ...counts],
  });
  assertNotSuperseded(reply);
}

/**
 * Lets the orders expire whose holds are void, and puts those back into the outbox that MySQL or the
 * outbox has lost. A call that dies half-way leaves the others to the next.
 * @param readStored those of these orders that MySQL has
 * @returns how many there are
 */
export async function expireVoid(
  redis: RedisClient,
  saleId: string,
  readStored: (orderNos: readonly string[]) => Promise<Pick<ReadonlyMap<string, unknown>, 'has'>>,
): Promise<number> {
  const keys = keysOf(saleId);
  let expired = 0;
  // Each order is taken off the list, so the list becomes empty.
  for (;;) {
    const orderNos = await redis.zrange(keys.void, '0', String(ROWS_AT_ONCE - 1));
    if (orderNos.length === 0) return expired;
    const [valid, invalid] = [orderNos.filter(parseOrderNo), orderNos.filter((text) => !parseOrderNo(text))];
    if (invalid.length > 0) await redis.zrem(keys.void, ...invalid);
    const stored = await readStored(valid);
    const replies = await Promise.all(
      valid.map((orderNo) => {
        const isStored = stored.has(orderNo);
        return run(redis, expireVoidScript, {
          keys: orderKeys(orderNo),
          args: { orderNo, epoch: epochOf(orderNo), ttlMs: PROJECTION_TTL_MS, isStored },
        });
      }),
    );
    expired += replies.filter((reply) => reply === 'expires').length;
  }
}

/**
 * What this rebuild, or one that died, has found damaged: names of keys, and orders that are lost by it.
 */
export function readDamaged(redis: RedisClient, saleId: string): Promise<string[]> {
  return redis.smembers(keysOf(saleId).damaged);
}

/** An operator can see it now. */
export async function forgetDamaged(
  redis: RedisClient,
  saleId: string,
  names: readonly string[],
): Promise<void> {
  if (names.length > 0) await redis.srem(keysOf(saleId).damaged, ...names);
}
