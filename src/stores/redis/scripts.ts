/**
 * The Lua scripts: each is defined here once. The header in its file says what the keys, arguments and
 * replies mean.
 */

import {
  admitReply,
  changeSaleReply,
  dropDeadlineReply,
  expireVoidReply,
  forgetOrderReply,
  forgetSaleReply,
  giveBackReply,
  holdReply,
  lifeReply,
  lookSaleReply,
  mendLimitReply,
  mendStockReply,
  projectReply,
  lookUpOrdersReply,
  removeIdleConsumersReply,
  renameUserReply,
  requeueReply,
  waitingReply,
  rebuildBeginReply,
  rebuildEndReply,
  rebuildWriteReply,
  reserveAgainReply,
  reserveReply,
  restoreHoldReply,
  suspendReply,
} from './replies.ts';
import { defineScript } from './script-call.ts';

export const reserve = defineScript({
  file: 'reserve',
  keys: ['sale', 'stock', 'limits', 'order', 'idem', 'outbox', 'deadlines', 'waitingElsewhere', 'ticket'],
  args: [
    'orderNo',
    'epoch',
    'saleId',
    'userId',
    'idempotencyKey',
    'fingerprint',
    'idempotencyTtlMs',
    'startsPerSecond',
    'ip',
    'userAgent',
    'shop',
    'chargesTotal',
    'expectedTotal',
    'ticketEndsAtMs',
    'isSingleUse',
  ],
  repeated: ['sku', 'quantity'],
  reply: reserveReply,
});

export const reserveAgain = defineScript({
  file: 'reserve-again',
  keys: ['sale', 'stock', 'limits', 'order', 'idem', 'outbox', 'deadlines', 'restored', 'ticket'],
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
    'ip',
    'userAgent',
    'shop',
    'ticketEndsAtMs',
  ],
  reply: reserveAgainReply,
});

export const confirm = defineScript({
  file: 'confirm',
  keys: ['order', 'stock', 'deadlines', 'sale'],
  args: ['orderNo', 'epoch', 'projectionTtlMs'],
  reply: holdReply,
});

export const release = defineScript({
  file: 'release',
  keys: ['order', 'stock', 'limits', 'deadlines', 'sale'],
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

export const checkLife = defineScript({ file: 'check-life', keys: ['sale'], args: [], reply: lifeReply });

export const suspend = defineScript({ file: 'suspend', keys: ['sale'], args: [], reply: suspendReply });

export const rebuildBegin = defineScript({
  file: 'rebuild-begin',
  keys: ['sale', 'limits', 'deadlines', 'restored', 'returns', 'void'],
  args: ['epoch'],
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
  'ip',
  'userAgent',
  'shop',
  'status',
  'version',
  'payment',
  'reason',
] as const;

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
  args: ['epoch'],
  repeated: ['hash', 'field', 'value'],
  reply: rebuildEndReply,
});

export const expireVoid = defineScript({
  file: 'expire-void',
  keys: ['sale', 'order', 'void'],
  args: ['orderNo', 'epoch', 'ttlMs'],
  reply: expireVoidReply,
});

export const lookSale = defineScript({
  file: 'look-sale',
  keys: ['sale', 'stock', 'limits', 'deadlines'],
  args: ['heldMax'],
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
  keys: ['sale', 'order', 'deadlines'],
  args: ['orderNo', 'epoch', ...MYSQL_ORDER],
  reply: restoreHoldReply,
});

export const forgetSale = defineScript({
  file: 'forget-sale',
  keys: ['sale', 'stock', 'limits', 'outbox', 'deadlines', 'waitingElsewhere', 'restored', 'returns', 'void'],
  args: [],
  reply: forgetSaleReply,
});

export const forgetOrder = defineScript({
  file: 'forget-order',
  keys: ['order', 'idem'],
  args: [],
  reply: forgetOrderReply,
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
  args: ['changeNo', 'epoch', 'rules', 'untilMs'],
  repeated: ['sku', 'unitPrice', 'limit', 'total'],
  reply: changeSaleReply,
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

/** All of them. */
export const SCRIPTS = [
  reserve,
  reserveAgain,
  confirm,
  release,
  giveBack,
  project,
  lookUpOrders,
  waiting,
  requeue,
  dropDeadline,
  lookSale,
  mendStock,
  mendLimit,
  restoreHold,
  forgetSale,
  forgetOrder,
  renameUser,
  changeSale,
  admit,
  removeIdleConsumers,
  checkLife,
  suspend,
  rebuildBegin,
  rebuildOrder,
  rebuildWrite,
  rebuildEnd,
  expireVoid,
] as const;

/**
 * For the `scripts` option of ioredis, which sends EVALSHA and, where Redis has forgotten a script, EVAL.
 * Without a number of keys it takes the first argument for that.
 */
export const SCRIPT_COMMANDS = Object.fromEntries(
  SCRIPTS.map(({ name, lua, keys, keyList }) => [
    name,
    keyList === undefined ? { lua, numberOfKeys: keys.length } : { lua },
  ]),
);
