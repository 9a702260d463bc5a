#!lua
--[[
Reserve again for an order that was accepted and lost, and hand it to the outbox, in one atomic step.

For money that came for an order which no store knows any more. The order was accepted once, at its prices and
in its time: so prices, total, time and payment window stay as given, and neither pause nor window nor limit
nor backlog refuses it. The units that it takes count against its user's limit, as those of any order. Only
stock that is gone stands in the way.
Invariant: total = available + held + sold.
Idempotent by orderNo, for good: an order restored so long ago that its hash has expired is known by its entry
in `restored`, which never expires.

KEYS
  1   sale
  2   stock
  3   limits
  4   order
  5   idem
  6   outbox
  7   deadlines
  8   restored

ARGV
  1   orderNo
  2   saleId
  3   userId
  4   idempotencyKey
  5   fingerprint          digest of the request
  6   idempotencyTtlMs     life of the idempotency entry (ms)
  7   items                JSON list of sku, quantity (units), unitPrice (minor units); each SKU once
  8   total                minor units
  9   currency
  10  reservedAtMs         when the order was accepted (Unix ms)
  11  paymentWindowMs      ms
  12  ip
  13  userAgent

Replies
  reserved
  known         hold       the order is there, in this state; `absent`: it was restored before, ended and
                           expired. Nothing was changed
  sale-absent              Redis does not know the sale, nor what is left of it
  unknown-sku   sku
  sold-out      sku
]]
local saleKey, stockKey, limitsKey, orderKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local idemKey, outboxKey, deadlinesKey, restoredKey = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local orderNo, saleId, userId, idempotencyKey = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fingerprint, idempotencyTtlMs, items = ARGV[5], tonumber(ARGV[6]), cjson.decode(ARGV[7])
local total, currency, reservedAtMs, paymentWindowMs = ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
local ip, userAgent = ARGV[12], ARGV[13]

local function integer(number)
  return string.format('%.0f', number)
end

local hold = redis.call('HGET', orderKey, 'hold')
if hold then
  return { 'known', hold }
end
if redis.call('SISMEMBER', restoredKey, orderNo) == 1 then
  return { 'known', 'absent' }
end
if redis.call('HEXISTS', saleKey, 'epoch') == 0 then
  return { 'sale-absent' }
end
for _, item in ipairs(items) do
  local available = tonumber(redis.call('HGET', stockKey, item.sku .. ':available'))
  if not available then
    return { 'unknown-sku', item.sku }
  end
  if available < item.quantity then
    return { 'sold-out', item.sku }
  end
end
-- The shopper may have repeated the request since, and got another order for it.
local isKeyFree = redis.call('EXISTS', idemKey) == 0

-- Writes.
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':available', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':held', item.quantity)
  redis.call('HINCRBY', limitsKey, item.sku .. ':' .. userId, item.quantity)
end
local entry = redis.call('XADD', outboxKey, '*', 'order_no', orderNo)
redis.call('HSET', orderKey,
  'sale_id', saleId, 'user_id', userId, 'items', ARGV[7], 'total', total, 'currency', currency,
  'idempotency_key', idempotencyKey, 'reserved_at', integer(reservedAtMs), 'payment_window', integer(paymentWindowMs),
  'ip', ip, 'user_agent', userAgent, 'entry', entry,
  'hold', 'held', 'status', 'queued', 'version', '0', 'payment', 'none', 'reason', '')
if isKeyFree then
  redis.call('HSET', idemKey, 'order_no', orderNo, 'fingerprint', fingerprint)
  redis.call('PEXPIRE', idemKey, idempotencyTtlMs)
end
redis.call('ZADD', deadlinesKey, integer(reservedAtMs + paymentWindowMs), orderNo)
redis.call('SADD', restoredKey, orderNo)
return { 'reserved' }
