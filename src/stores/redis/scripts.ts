/** All Lua scripts. The header in a script's file says what its keys, arguments and replies mean. */

import { z } from 'zod';
import { defineScript } from './script-call.ts';

// The replies of the Lua scripts, as schemas. Each reply is explained in its script's header.

const int = z.coerce.number().int();
/** A field, an argument or a reply of JSON text. */
export function jsonText<T extends z.ZodType>(schema: T) {
  return z
    .string()
    .transform((text, ctx): unknown => {
      try {
        return JSON.parse(text);
      } catch {
        ctx.addIssue('is no JSON');
        return z.NEVER;
      }
    })
    .pipe(schema);
}

/** The items of an order as `reserve` writes them. */
export const itemsJson = jsonText(
  z.array(z.object({ sku: z.string(), quantity: z.int(), unitPrice: z.int() })),
);

/**
 * Times are Unix ms by Redis' clock, amounts minor units. The frequent replies come first: they are tried in
 * order.
 */
const reserveReply = z.union([
  z
    .tuple([z.literal('sold-out'), z.string(), int])
    .transform(([kind, sku, available]) => ({ kind, sku, available })),
  z
    .tuple([z.literal('reserved'), z.string(), int, z.string(), int, int, itemsJson])
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
    .tuple([z.literal('limit-reached'), z.string(), int, int])
    .transform(([kind, sku, limit, bought]) => ({ kind, sku, limit, bought })),
  z
    .tuple([z.literal('sale-limit-reached'), int, int])
    .transform(([kind, limit, bought]) => ({ kind, limit, bought })),
  z.tuple([z.literal('ticket-used'), z.string()]).transform(([kind, orderNo]) => ({ kind, orderNo })),
  z.tuple([z.enum(['ticket-required', 'ticket-expired'])]).transform(([kind]) => ({ kind })),
  z
    .tuple([z.literal('total-changed'), int, z.string()])
    .transform(([kind, total, currency]) => ({ kind, total, currency })),
  z.tuple([z.literal('total-too-low'), int]).transform(([kind, total]) => ({ kind, total })),
  z.tuple([z.literal('sale-absent')]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('paused')]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('not-open-yet'), int]).transform(([kind, opensAtMs]) => ({ kind, opensAtMs })),
  z.tuple([z.literal('closed'), int]).transform(([kind, closesAtMs]) => ({ kind, closesAtMs })),
  z.tuple([z.literal('unknown-sku'), z.string()]).transform(([kind, sku]) => ({ kind, sku })),
  z.tuple([z.literal('epoch-changed'), z.string()]).transform(([kind, epoch]) => ({ kind, epoch })),
  z
    .tuple([z.literal('backlog-full'), int, int])
    .transform(([kind, waiting, bound]) => ({ kind, waiting, bound })),
  z.tuple([z.literal('memory-full'), int, int]).transform(([kind, used, bound]) => ({ kind, used, bound })),
]);

/** One an order. */
export const reserveReplies = z.array(reserveReply);

/** The state of a hold, or why it was not changed. */
export const holdReply = z
  .tuple([z.enum(['sold', 'released', 'returned', 'absent', 'lost', 'sale-absent'])])
  .transform(([state]) => state);

export const reserveAgainReply = z.union([
  z.tuple([z.enum(['sale-absent', 'too-late'])]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('reserved'), int]).transform(([kind, epoch]) => ({ kind, epoch })),
  z
    .tuple([z.literal('known'), z.enum(['held', 'sold', 'released', 'returned', 'absent']), int])
    .transform(([kind, hold, epoch]) => ({ kind, hold, epoch })),
  z.tuple([z.enum(['unknown-sku', 'sold-out']), z.string()]).transform(([kind, sku]) => ({ kind, sku })),
]);

export const giveBackReply = z.union([
  z.tuple([z.enum(['returned', 'held', 'released', 'sale-absent'])]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('not-sold'), z.string()]).transform(([kind, sku]) => ({ kind, sku })),
]);

/** Whether a sale's data are those that this server was given. */
export const lifeReply = z.union([
  z
    .tuple([z.enum(['well', 'replaced', 'suspended', 'damaged']), int])
    .transform(([kind, epoch]) => ({ kind, epoch })),
  z.tuple([z.literal('sale-absent')]).transform(([kind]) => ({ kind })),
]);

export const serverTimeReply = z
  .tuple([z.literal('time'), int, z.string()])
  .transform(([, nowMs, runId]) => ({ nowMs, runId }));

/** Of the steps of a rebuild. */
const stateReply = <const T extends string>(...states: readonly T[]) =>
  z.tuple([z.enum(states)]).transform(([state]) => state);
export const suspendReply = stateReply('suspended', 'sale-absent');
export const rebuildBeginReply = stateReply('begun', 'moving', 'superseded');
export const rebuildWriteReply = stateReply('written', 'superseded');
export const rebuildEndReply = stateReply('resumed', 'superseded');
export const expireVoidReply = stateReply('expires', 'kept', 'damaged');
/** The number of keys that were removed. */
export const rebuildCleanReply = z.union([
  z.tuple([z.literal('cleaned'), int]).transform(([, removed]) => removed),
  z.tuple([z.literal('superseded')]).transform(([state]) => state),
]);

/** For each order the values of its fields, not judged yet; false for an order that is no hash. */
const ordersJson = jsonText(
  z.array(z.custom<unknown[] | false>((value) => value === false || Array.isArray(value))),
);

/** With the sale's epoch where Redis can be believed about it. */
export const lookUpOrdersReply = z.union([
  z.tuple([z.literal('certain'), int, ordersJson]).transform(([, epoch, orders]) => ({ epoch, orders })),
  z.tuple([z.literal('doubtful'), ordersJson]).transform(([, orders]) => ({ epoch: undefined, orders })),
]);

/** A JSON list of texts. Lua writes an empty list as an object. */
const textsJson = jsonText(z.union([z.array(z.string()), z.object({}).transform((): string[] => [])]));

export const lookSaleReply = z.union([
  z
    .tuple([z.literal('looked'), int, int, int, int, textsJson, textsJson, textsJson, int])
    .transform(([kind, atMs, epoch, changeNo, mends, stock, limits, tied, lastDeadlineMs]) => ({
      kind,
      atMs,
      epoch,
      changeNo,
      mends,
      stock: new Map(
        stock.flatMap((field, i) => (i % 2 === 0 ? [[field, Number(stock[i + 1])] as const] : [])),
      ),
      limits: limits.map(Number),
      tied,
      lastDeadlineMs,
    })),
  z.tuple([z.literal('not-at-rest')]).transform(([kind]) => ({ kind })),
]);

export const mendStockReply = z.union([
  z
    .tuple([z.literal('mended'), int, int, int])
    .transform(([kind, available, held, sold]) => ({ kind, available, held, sold })),
  z.tuple([z.literal('moved')]).transform(([kind]) => ({ kind })),
]);

export const mendLimitReply = z.union([
  z.tuple([z.literal('mended'), int]).transform(([kind, units]) => ({ kind, units })),
  z.tuple([z.literal('moved')]).transform(([kind]) => ({ kind })),
]);

export const restoreHoldReply = z.union([
  z.tuple([z.literal('restored'), z.string()]).transform(([kind, before]) => ({ kind, before })),
  z.tuple([z.literal('moved')]).transform(([kind]) => ({ kind })),
]);

/** The sales that were not on the list. */
export const registerSalesReply = z
  .tuple([z.literal('registered'), textsJson])
  .transform(([, added]) => added);

export const forgetSaleReply = z.tuple([z.enum(['forgotten', 'busy'])]).transform(([kind]) => kind);

export const forgetOrderReply = z.tuple([z.enum(['forgotten', 'held'])]).transform(([kind]) => kind);

/** The units that were moved. */
export const renameUserReply = z.tuple([z.literal('renamed'), int]).transform(([, units]) => units);

/** One an order. */
export const waitingReply = z.array(z.enum(['waits', 'left', 'settled', 'absent', 'damaged']));

export const requeueReply = z
  .tuple([z.enum(['requeued', 'moved', 'released', 'sold', 'returned', 'absent'])])
  .transform(([kind]) => kind);

export const dropDeadlineReply = z.tuple([z.enum(['dropped', 'gone', 'kept'])]).transform(([kind]) => kind);

/** One an order. */
export const projectReply = z.array(z.enum(['projected', 'stale', 'absent']));

export const changeSaleReply = z.union([
  z.tuple([z.enum(['changed', 'sale-absent'])]).transform(([kind]) => ({ kind })),
  z.tuple([z.literal('stale'), int]).transform(([kind, changeNo]) => ({ kind, changeNo })),
  z
    .tuple([z.literal('below-committed'), z.string(), int])
    .transform(([kind, sku, committed]) => ({ kind, sku, committed })),
  z.tuple([z.literal('closed'), int]).transform(([kind, closesAtMs]) => ({ kind, closesAtMs })),
]);

export const admitReply = z
  .tuple([z.literal('admitted'), int], z.string())
  .transform(([, room, ...orderNos]) => ({ room, orderNos }));

/** How many were removed. */
export const removeIdleConsumersReply = z.tuple([z.literal('removed'), int]).transform(([, count]) => count);

// The Lua scripts for orders: from the reservation to the end of a hold, and on the way to the engine.

export const reserve = defineScript({
  file: 'reserve',
  keys: ['sale', 'stock', 'limits', 'outbox', 'deadlines'],
  args: ['saleId', 'idempotencyTtlMs', 'storesPerSecond', 'waitingElsewhere'],
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

export const reserveAgain = defineScript({
  file: 'reserve-again',
  keys: ['sale', 'stock', 'limits', 'order', 'idem', 'outbox', 'deadlines', 'restored', 'ticket', 'moves'],
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

export const confirm = defineScript({
  file: 'confirm',
  keys: ['order', 'stock', 'deadlines', 'sale', 'moves'],
  args: ['orderNo', 'epoch', 'projectionTtlMs'],
  reply: holdReply,
});

export const release = defineScript({
  file: 'release',
  keys: ['order', 'stock', 'limits', 'deadlines', 'sale', 'moves'],
  args: ['orderNo', 'epoch', 'projectionTtlMs'],
  reply: holdReply,
});

export const giveBack = defineScript({
  file: 'give-back',
  keys: ['order', 'stock', 'limits', 'returns', 'sale'],
  args: ['orderNo', 'epoch', 'userId', 'items', 'isLimitAsked', 'isStockAsked', 'part'],
  reply: giveBackReply,
});

export const project = defineScript({
  file: 'project',
  keys: [],
  keyList: 'order',
  args: ['version', 'status', 'payment', 'reason', 'refunded'],
  reply: projectReply,
});

export const waiting = defineScript({
  file: 'waiting',
  keys: ['outbox'],
  keyList: 'order',
  args: [],
  reply: waitingReply,
});

export const requeue = defineScript({
  file: 'requeue',
  keys: ['order', 'outbox'],
  args: ['orderNo', 'entry'],
  reply: requeueReply,
});

export const dropDeadline = defineScript({
  file: 'drop-deadline',
  keys: ['order', 'deadlines'],
  args: ['orderNo'],
  reply: dropDeadlineReply,
});

export const lookUpOrders = defineScript({
  file: 'look-up-orders',
  keys: ['sale'],
  keyList: 'order',
  args: [],
  repeated: ['field'],
  reply: lookUpOrdersReply,
});

export const forgetOrder = defineScript({
  file: 'forget-order',
  keys: ['order', 'idem'],
  args: [],
  reply: forgetOrderReply,
});

export const admit = defineScript({
  file: 'admit',
  keys: ['engine'],
  args: ['slots', 'leaseMs'],
  repeated: ['orderNo'],
  reply: admitReply,
});

export const removeIdleConsumers = defineScript({
  file: 'remove-idle-consumers',
  keys: ['outbox'],
  args: ['group', 'self', 'minIdleMs'],
  reply: removeIdleConsumersReply,
});

export const checkLife = defineScript({
  file: 'check-life',
  keys: ['sale', 'stock', 'limits', 'outbox', 'deadlines', 'restored', 'returns'],
  args: [],
  reply: lifeReply,
});

export const serverTime = defineScript({
  file: 'server-time',
  keys: ['sale'],
  args: [],
  reply: serverTimeReply,
});

export const suspend = defineScript({ file: 'suspend', keys: ['sale'], args: [], reply: suspendReply });

export const rebuildBegin = defineScript({
  file: 'rebuild-begin',
  keys: ['sale', 'limits', 'deadlines', 'restored', 'returns', 'void', 'outbox', 'damaged'],
  args: ['epoch', 'movedMax'],
  reply: rebuildBeginReply,
});

/** An order as MySQL has it, with its state. */
const MYSQL_ORDER = [
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
] as const;

export const rebuildClean = defineScript({
  file: 'rebuild-clean',
  keys: ['sale'],
  keyList: 'target',
  args: ['epoch'],
  reply: rebuildCleanReply,
});

export const rebuildOrder = defineScript({
  file: 'rebuild-order',
  keys: ['sale', 'order'],
  args: ['epoch', ...MYSQL_ORDER],
  reply: rebuildWriteReply,
});

export const rebuildWrite = defineScript({
  file: 'rebuild-write',
  keys: ['sale', 'target'],
  args: ['epoch', 'type', 'expiresAtMs'],
  repeated: ['field', 'value'],
  reply: rebuildWriteReply,
});

export const rebuildEnd = defineScript({
  file: 'rebuild-end',
  keys: ['sale', 'stock'],
  args: ['epoch', 'undecidedFrom'],
  repeated: ['hash', 'field', 'value'],
  reply: rebuildEndReply,
});

export const expireVoid = defineScript({
  file: 'expire-void',
  keys: ['sale', 'order', 'void', 'outbox', 'damaged'],
  args: ['orderNo', 'epoch', 'ttlMs', 'isStored'],
  reply: expireVoidReply,
});

export const lookSale = defineScript({
  file: 'look-sale',
  keys: ['sale', 'stock', 'limits', 'deadlines', 'moves'],
  args: ['lookId', 'movesTtlMs'],
  repeated: ['field'],
  reply: lookSaleReply,
});

export const mendStock = defineScript({
  file: 'mend-stock',
  keys: ['sale', 'stock'],
  args: ['sku', 'epoch', 'mends', 'changeNo', 'total', 'heldDelta', 'soldDelta'],
  reply: mendStockReply,
});

export const mendLimit = defineScript({
  file: 'mend-limit',
  keys: ['sale', 'limits'],
  args: ['field', 'epoch', 'mends', 'delta'],
  reply: mendLimitReply,
});

export const restoreHold = defineScript({
  file: 'restore-hold',
  keys: ['sale', 'order', 'deadlines', 'moves'],
  args: ['orderNo', 'epoch', 'untilMs', ...MYSQL_ORDER],
  reply: restoreHoldReply,
});

export const registerSales = defineScript({
  file: 'register-sales',
  keys: ['sales'],
  args: [],
  repeated: ['sale'],
  reply: registerSalesReply,
});

export const forgetSale = defineScript({
  file: 'forget-sale',
  keys: ['sale', 'stock', 'limits', 'outbox', 'deadlines', 'restored', 'returns', 'void', 'damaged'],
  args: [],
  reply: forgetSaleReply,
});

export const renameUser = defineScript({
  file: 'rename-user',
  keys: ['limits'],
  args: ['userId', 'token'],
  repeated: ['sku'],
  reply: renameUserReply,
});

export const changeSale = defineScript({
  file: 'change-sale',
  keys: ['sale', 'stock'],
  args: ['changeNo', 'changeId', 'epoch', 'rules', 'untilMs', 'seenRunId'],
  repeated: ['sku', 'unitPrice', 'limit', 'total'],
  reply: changeSaleReply,
});
