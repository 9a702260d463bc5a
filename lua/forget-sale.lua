#!lua flags=allow-oom
--[[
Remove all data of a sale that is long over, except its orders' hashes, which expire by themselves.

Call it only after MySQL has noted that they go, or they would be made again.
Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   sale
  2   stock
  3   limits
  4   outbox
  5   deadlines
  6   restored
  7   returns
  8   void
  9   damaged
  10  open
  11  unpaid
  12  free

Replies
  forgotten
  busy        an order waits or is held. Nothing was changed
]]
local saleKey, stockKey, limitsKey, outboxKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local restoredKey, returnsKey, voidKey, damagedKey = KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local openKey, unpaidKey, freeKey = KEYS[10], KEYS[11], KEYS[12]

-- include shared/key-type.lua

local isWaiting = not isDamaged(outboxKey, 'stream') and redis.call('XLEN', outboxKey) > 0
local isHeld = not isDamaged(deadlinesKey, 'zset') and redis.call('ZCARD', deadlinesKey) > 0
if isWaiting or isHeld then
  return { 'busy' }
end

-- Writes.
redis.call('UNLINK', saleKey, stockKey, limitsKey, outboxKey, deadlinesKey)
redis.call('UNLINK', restoredKey, returnsKey, voidKey, damagedKey, openKey, unpaidKey, freeKey)
return { 'forgotten' }
