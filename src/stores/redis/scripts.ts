/**
 * The Lua scripts: each is defined here once. The header in its file says what the keys, arguments and
 * replies mean.
 */

import {
  admitReply,
  dropDeadlineReply,
  giveBackReply,
  holdReply,
  projectReply,
  readOrdersReply,
  removeIdleConsumersReply,
  requeueReply,
  reserveAgainReply,
  reserveReply,
  restockReply,
  waitingReply,
} from './replies.ts';
import { defineScript } from './script-call.ts';

export const reserve = defineScript({
  file: 'reserve',
  keys: ['sale', 'stock', 'limits', 'order', 'idem', 'outbox', 'deadlines', 'waitingElsewhere'],
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
  ],
  repeated: ['sku', 'quantity'],
  reply: reserveReply,
});

export const reserveAgain = defineScript({
  file: 'reserve-again',
  keys: ['sale', 'stock', 'limits', 'order', 'idem', 'outbox', 'deadlines', 'restored'],
  args: [
    'orderNo',
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
  ],
  reply: reserveAgainReply,
});

export const confirm = defineScript({
  file: 'confirm',
  keys: ['order', 'stock', 'deadlines'],
  args: ['orderNo', 'projectionTtlMs'],
  reply: holdReply,
});

export const release = defineScript({
  file: 'release',
  keys: ['order', 'stock', 'limits', 'deadlines'],
  args: ['orderNo', 'projectionTtlMs'],
  reply: holdReply,
});

export const giveBack = defineScript({
  file: 'give-back',
  keys: ['order', 'stock', 'limits', 'returns'],
  args: ['orderNo', 'userId', 'items', 'isLimitAsked', 'isStockAsked'],
  reply: giveBackReply,
});

export const project = defineScript({
  file: 'project',
  keys: [],
  keyList: 'order',
  args: ['version', 'status', 'payment', 'reason'],
  reply: projectReply,
});

export const readOrders = defineScript({
  file: 'read-orders',
  keys: [],
  keyList: 'order',
  args: [],
  repeated: ['field'],
  reply: readOrdersReply,
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

export const restock = defineScript({
  file: 'restock',
  keys: ['sale', 'stock'],
  args: ['sku', 'total', 'version'],
  reply: restockReply,
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
  readOrders,
  waiting,
  requeue,
  dropDeadline,
  restock,
  admit,
  removeIdleConsumers,
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
