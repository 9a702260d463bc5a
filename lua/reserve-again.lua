#!lua
--[[
Reserve again for an order that was accepted and lost, and hand it to the outbox, in one atomic step.

For money that came for an order which no store knows any more. The order was accepted once, at its prices and in its time: so
prices, total, time and payment window stay as given, and neither pause nor window nor limit nor backlog refuses it. What it
takes counts against its user's limit, as any order does. Only stock that is gone stands in the way.
Invariant: total = available + held + sold. Idempotent by orderNo, for good: an order restored so long ago that its hash has
expired is known by its entry in `restored`, which never expires.

KEYS  1 sale  2 stock  3 limits  4 order  5 idem  6 outbox  7 deadlines  8 restored
ARGV  1 orderNo  2 saleId  3 userId  4 idempotencyKey  5 request fingerprint  6 idempotency entry's life (ms)
      7 items (JSON list of sku, quantity, unitPrice in minor units; each SKU once)  8 total (minor units)  9 currency
      10 reservedAt (Unix ms)  11 paymentWindow (ms)  12 ip  13 user agent

Replies
  reserved
  known         hold       it is there, in whatever state; `absent`: restored before, ended, and expired. Nothing was changed
  sale-absent              Redis does not know the sale: nobody can say what is left of it
  unknown-sku   sku
  sold-out      sku
]]
local saleKey, stockKey, limitsKey, orderKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local idemKey, outboxKey, deadlinesKey, restoredKey = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local orderNo, saleId, userId, idempotencyKey = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local fingerprint, idempotencyTtlMs, items = ARGV[5], tonumber(ARGV[6]), cjson.decode(ARGV[7])
local total, currency, reservedAt, paymentWindow = ARGV[8], ARGV[9], tonumber(ARGV[10]), tonumber(ARGV[11])
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
redis.call('HSET', orderKey,
  'sale_id', saleId, 'user_id', userId, 'items', ARGV[7], 'total', total, 'currency', currency,
  'idempotency_key', idempotencyKey, 'reserved_at', integer(reservedAt), 'payment_window', integer(paymentWindow),
  'ip', ip, 'user_agent', userAgent,
  'hold', 'held', 'status', 'queued', 'version', '0', 'payment', 'none', 'reason', '')
if isKeyFree then
  redis.call('HSET', idemKey, 'order_no', orderNo, 'fingerprint', fingerprint)
  redis.call('PEXPIRE', idemKey, idempotencyTtlMs)
end
redis.call('ZADD', deadlinesKey, integer(reservedAt + paymentWindow), orderNo)
redis.call('SADD', restoredKey, orderNo)
redis.call('XADD', outboxKey, '*', 'order_no', orderNo)
return { 'reserved' }
