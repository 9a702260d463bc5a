#!lua flags=allow-oom
--[[
Write the hold of an order again that is open in MySQL and that Redis does not have as held.

It changes no counter: whether they count the hold is found by comparing them with all holds, afterwards.
Idempotent: an order that is held stays as it is, and is put on the list of deadlines.
May run at maxmemory: the order was there before.

KEYS
  1   sale
  2   order
  3   deadlines

ARGV
  1   orderNo
  2   epoch                of the sale's data, in which the hold was found missing
  3   saleId
  4   userId
  5   idempotencyKey
  6   items                JSON list of sku, quantity (units), unitPrice (minor units); each SKU once
  7   total                minor units
  8   currency
  9   reservedAtMs         Unix ms
  10  paymentWindowMs      ms
  11  ip
  12  userAgent
  13  shop                 what the shop added to the order (JSON); empty: nothing
  14  status
  15  version
  16  payment
  17  reason               empty: none

Replies
  restored      before      what Redis had: the state of the hold, unlisted (held, without its deadline), or
                            absent
  moved                     the data were made again, or are being made. Nothing was changed
]]
local saleKey, orderKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3]
local orderNo, epoch, saleId, userId, idempotencyKey, items = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local total, currency, reservedAtMs, paymentWindowMs = ARGV[7], ARGV[8], tonumber(ARGV[9]), tonumber(ARGV[10])
local ip, userAgent, shop, status, version = ARGV[11], ARGV[12], ARGV[13], ARGV[14], ARGV[15]
local payment, reason = ARGV[16], ARGV[17]

-- include shared/integer.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'rebuilding')
if sale[1] ~= epoch or sale[2] then
  return { 'moved' }
end
local hold = redis.pcall('HGET', orderKey, 'hold')
local isText = type(hold) == 'string'
local before = isText and hold or 'absent'

-- Writes.
if hold ~= 'held' then
  redis.call('DEL', orderKey)
  redis.call('HSET', orderKey,
    'sale_id', saleId, 'user_id', userId, 'items', items, 'total', total, 'currency', currency,
    'idempotency_key', idempotencyKey, 'reserved_at', ARGV[9], 'payment_window', ARGV[10],
    'ip', ip, 'user_agent', userAgent, 'epoch', epoch,
    'hold', 'held', 'status', status, 'version', version, 'payment', payment, 'reason', reason)
  if shop ~= '' then
    redis.call('HSET', orderKey, 'shop', shop)
  end
end
redis.call('ZADD', deadlinesKey, integer(reservedAtMs + paymentWindowMs), orderNo)
return { 'restored', hold == 'held' and 'unlisted' or before }
