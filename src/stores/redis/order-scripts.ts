/** The Lua scripts for orders: from the reservation to the end of a hold, and on the way to the engine. */

import {
  admitReply,
  dropDeadlineReply,
  forgetOrderReply,
  giveBackReply,
  holdReply,
  lookUpOrdersReply,
  projectReply,
  removeIdleConsumersReply,
  requeueReply,
  reserveAgainReply,
  reserveReplies,
  waitingReply,
} from './replies.ts';
import { defineScript } from './script-call.ts';

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
    'ip',
    'userAgent',
    'shop',
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
    'ip',
    'userAgent',
    'shop',
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
