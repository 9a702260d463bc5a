#!lua flags=allow-oom
--[[
Let the hash of an order expire whose hold a rebuild has made void.

No other script would: a hold has no end but its order's. The order is taken off `void`.
Where the outbox was lost, an order that was accepted and not stored is put into the new one, so that a relay
reserves it again. One that is no hash is lost, unless MySQL has it: then the rebuild has removed it before. It is
removed, and its number noted in `damaged` for an operator.
Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   sale
  2   order
  3   void
  4   outbox
  5   damaged

ARGV
  1   orderNo
  2   epoch       of the orderNo, for a hold that does not say its own
  3   ttlMs       how long the projection stays readable (ms)

Replies
  expires
  damaged     the order is lost
  kept        the hold is of the sale's present epoch, or has ended, or is not there
]]
local saleKey, orderKey, voidKey, outboxKey, damagedKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local orderNo, epoch, ttlMs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- include shared/key-type.lua

if isDamaged(orderKey, 'hash') then
  redis.call('SADD', damagedKey, orderNo)
  redis.call('UNLINK', orderKey)
  redis.call('ZREM', voidKey, orderNo)
  return { 'damaged' }
end
local order = redis.call('HMGET', orderKey, 'hold', 'epoch', 'version', 'entry')
local saleEpoch = tonumber(redis.call('HGET', saleKey, 'epoch')) or 0
local isVoid = order[1] == 'held' and (tonumber(order[2]) or epoch) < saleEpoch
local isOutboxLost = redis.call('SISMEMBER', damagedKey, 'outbox') == 1
local isLost = isVoid and isOutboxLost and order[3] == '0'
  and #redis.call('XRANGE', outboxKey, order[4] or '0-1', order[4] or '0-1') == 0

-- Writes.
redis.call('ZREM', voidKey, orderNo)
if not isVoid then
  return { 'kept' }
end
if isLost then
  redis.call('HSET', orderKey, 'entry', redis.call('XADD', outboxKey, '*', 'order_no', orderNo))
end
redis.call('PEXPIRE', orderKey, ttlMs)
return { 'expires' }
