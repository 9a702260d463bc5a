#!lua flags=allow-oom
--[[
Let the hash of an order expire whose hold a rebuild has made void.

No other script would: a hold has no end but its order's. The order is taken off `void`.
Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   sale
  2   order
  3   void

ARGV
  1   orderNo
  2   epoch       of the orderNo, for a hold that does not say its own
  3   ttlMs       how long the projection stays readable (ms)

Replies
  expires
  kept        the hold is of the sale's present epoch, or has ended, or is not there
]]
local saleKey, orderKey, voidKey = KEYS[1], KEYS[2], KEYS[3]
local orderNo, epoch, ttlMs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local order = redis.call('HMGET', orderKey, 'hold', 'epoch')
local saleEpoch = tonumber(redis.call('HGET', saleKey, 'epoch')) or 0
local isVoid = order[1] == 'held' and (tonumber(order[2]) or epoch) < saleEpoch

-- Writes.
redis.call('ZREM', voidKey, orderNo)
if not isVoid then
  return { 'kept' }
end
redis.call('PEXPIRE', orderKey, ttlMs)
return { 'expires' }
