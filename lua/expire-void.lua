#!lua flags=allow-oom
--[[
Let the hash of an order expire whose hold a rebuild has made void.

No other script would: a hold has no end but its order's. The order is taken off `void`.
One that MySQL does not have, that is shown as open and that is not in the outbox is put there: MySQL or the
outbox has lost it, and a relay reserves it again.
One that is no hash is lost, unless MySQL has it: then the rebuild has removed it before. It is removed, and its
number noted in `damaged` for an operator.
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
  4   isStored    1: MySQL has the order

Replies
  expires
  damaged     the order is lost
  kept        the hold is of the sale's present epoch, or has ended, or is not there
]]
local saleKey, orderKey, voidKey, outboxKey, damagedKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local orderNo, epoch, ttlMs, isStored = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1'

-- include shared/key-type.lua

-- Redis refuses what is no id of an entry.
local function isInOutbox(entry)
  local found = redis.pcall('XRANGE', outboxKey, entry, entry)
  return not found.err and #found > 0
end

if isDamaged(orderKey, 'hash') then
  redis.call('SADD', damagedKey, orderNo)
  redis.call('UNLINK', orderKey)
  redis.call('ZREM', voidKey, orderNo)
  return { 'damaged' }
end
local order = redis.call('HMGET', orderKey, 'hold', 'epoch', 'status', 'entry')
local saleEpoch = tonumber(redis.call('HGET', saleKey, 'epoch')) or 0
local isVoid = order[1] == 'held' and (tonumber(order[2]) or epoch) < saleEpoch
local isFinal = order[3] == 'paid' or order[3] == 'cancelled' or order[3] == 'failed'
local isLost = isVoid and not isStored and not isFinal and not isInOutbox(order[4] or '')

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
