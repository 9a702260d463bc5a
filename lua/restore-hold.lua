#!lua flags=allow-oom
--[[
Write the hold of an order again that is open in MySQL and that Redis does not have as held.

It changes no counter of units: whether they count the hold is found by comparing them with all holds, afterwards.
A release that was counted as unpaid is counted no longer: MySQL does not know it.
Call it while MySQL keeps the order from ending, and say until when that is certain. A later call was frozen
on its way, and would hold stock for an order that may have ended.
A projection that has a greater version keeps it.
Idempotent: an order that is held stays as it is, and is put on the list of deadlines.
May run at maxmemory: the order was there before.

KEYS
  1   sale
  2   order
  3   deadlines
  4   moves
  5   open
  6   unpaid

ARGV
  1   orderNo
  2   epoch                of the sale's data, in which the hold was found missing
  3   untilMs              until when the order is certain to be open (Unix ms)
  4   saleId
  5   userId
  6   idempotencyKey
  7   items                JSON list of sku, quantity (units), unitPrice (minor units); each SKU once
  8   total                minor units
  9   currency
  10  reservedAtMs         Unix ms
  11  paymentWindowMs      ms
  12  carried              what no script reads of the order (JSON)
  13  status
  14  version
  15  payment
  16  reason               empty: none
  17  extendedUntil        to when the deadline was extended (Unix ms); empty: it was not

Replies
  restored      before      what Redis had: the state of the hold, unlisted (held, without its deadline), or
                            absent
  moved                     the data were made again, or are being made, or it is too late. Nothing was
                            changed
]]
local saleKey, orderKey, deadlinesKey, movesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local openKey, unpaidKey = KEYS[5], KEYS[6]
local orderNo, epoch, untilMs, saleId, userId = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4], ARGV[5]
local idempotencyKey, items, total, currency = ARGV[6], ARGV[7], ARGV[8], ARGV[9]
local reservedAtMs, paymentWindowMs = tonumber(ARGV[10]), tonumber(ARGV[11])
local carried, status, version, payment, reason = ARGV[12], ARGV[13], tonumber(ARGV[14]), ARGV[15], ARGV[16]
local extendedUntil = ARGV[17]

-- include shared/integer.lua
-- include shared/write-order.lua
-- include shared/clock.lua
-- include shared/add-open-order.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'rebuilding')
if sale[1] ~= epoch or sale[2] or nowMs() > untilMs then
  return { 'moved' }
end
local found = redis.pcall('HMGET', orderKey, 'hold', 'version', 'status', 'payment', 'reason', 'unpaid')
local isHash = not found.err
local hold = isHash and found[1]
-- A projection that lacks a field is none.
local isShown = isHash and found[3] and found[4] and found[5]
local shown = isShown and tonumber(found[2]) or -1

-- Writes.
if hold ~= 'held' then
  if not isHash then
    redis.call('DEL', orderKey)
  end
  writeOrder(orderKey, {
    saleId = saleId, userId = userId, items = items, total = total, currency = currency,
    idempotencyKey = idempotencyKey, reservedAt = integer(reservedAtMs), paymentWindow = integer(paymentWindowMs),
    carried = carried, epoch = epoch,
  })
  if shown <= version then
    redis.call('HSET', orderKey, 'status', status, 'version', integer(version), 'payment', payment, 'reason', reason)
    redis.call('HDEL', orderKey, 'refunded', 'extended_until')
    if extendedUntil ~= '' then
      redis.call('HSET', orderKey, 'extended_until', extendedUntil)
    end
  end
  redis.call('PERSIST', orderKey)
end
if hold == 'released' and found[6] == '1' then
  redis.call('HDEL', orderKey, 'unpaid')
  if redis.pcall('HINCRBY', unpaidKey, userId, -1) == 0 then
    redis.call('HDEL', unpaidKey, userId)
  end
end
addOpenOrders(openKey, { { userId = userId, orderNo = orderNo } })
-- Of a projection that is newer, as it shows it.
local extended = tonumber(redis.call('HGET', orderKey, 'extended_until'))
redis.call('ZADD', deadlinesKey, integer(extended or reservedAtMs + paymentWindowMs), orderNo)
-- For a look that goes on (`look-sale`), and there only.
redis.pcall('RPUSHX', movesKey, '+' .. orderNo)
return { 'restored', hold == 'held' and 'unlisted' or hold or 'absent' }
