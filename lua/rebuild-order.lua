#!lua flags=allow-oom
--[[
Write an open order of a sale that is being rebuilt, with its hold under the new epoch.

Its stock, its limit and its deadline are counted by the other scripts of the rebuild.
A projection that has a greater version keeps it: MySQL has changed the order since it was read.
Idempotent.
May run at maxmemory: the order was there before.

KEYS
  1   sale
  2   order

ARGV
  1   epoch                of the rebuild
  2   saleId
  3   userId
  4   idempotencyKey
  5   items                JSON list of sku, quantity (units), unitPrice (minor units); each SKU once
  6   total                minor units
  7   currency
  8   reservedAtMs         Unix ms
  9   paymentWindowMs      ms
  10  carried              what no script reads of the order (JSON)
  11  status
  12  version
  13  payment
  14  reason               empty: none
  15  extendedUntil        to when the deadline was extended (Unix ms); empty: it was not

Replies
  written
  superseded      another rebuild has begun, or the server is another: nothing was changed
]]
local saleKey, orderKey = KEYS[1], KEYS[2]
local epoch, saleId, userId, idempotencyKey, items = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local total, currency, reservedAtMs, paymentWindowMs = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local carried, status, version, payment, reason = ARGV[10], ARGV[11], tonumber(ARGV[12]), ARGV[13], ARGV[14]
local extendedUntil = ARGV[15]

-- include shared/server.lua
-- include shared/write-order.lua

local sale = redis.call('HMGET', saleKey, 'rebuilding', 'rebuilding_run_id')
if sale[1] ~= epoch or sale[2] ~= serverRunId() then
  return { 'superseded' }
end
local shown = tonumber(redis.call('HGET', orderKey, 'version')) or -1

-- Writes.
writeOrder(orderKey, {
  saleId = saleId, userId = userId, items = items, total = total, currency = currency,
  idempotencyKey = idempotencyKey, reservedAt = reservedAtMs, paymentWindow = paymentWindowMs,
  carried = carried, epoch = epoch,
})
if shown <= version then
  redis.call('HSET', orderKey, 'status', status, 'version', ARGV[12], 'payment', payment, 'reason', reason)
  if extendedUntil == '' then
    redis.call('HDEL', orderKey, 'extended_until')
  else
    redis.call('HSET', orderKey, 'extended_until', extendedUntil)
  end
end
redis.call('PERSIST', orderKey)
return { 'written' }
