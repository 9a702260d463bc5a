/** The Lua scripts for the data of a sale: to change, check, compare, mend, rebuild and forget them. */

import {
  changeSaleReply,
  expireVoidReply,
  forgetSaleReply,
  lifeReply,
  lookSaleReply,
  mendLimitReply,
  mendStockReply,
  rebuildBeginReply,
  rebuildCleanReply,
  rebuildEndReply,
  rebuildWriteReply,
  registerSalesReply,
  renameUserReply,
  restoreHoldReply,
  serverTimeReply,
  suspendReply,
} from './replies.ts';
import { defineScript } from './script-call.ts';

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
  'ip',
  'userAgent',
  'shop',
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
