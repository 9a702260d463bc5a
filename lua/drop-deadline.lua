#!lua flags=allow-oom
--[[
Take an order off the list of deadlines where Redis holds nothing for it.

The scripts that settle a hold do so themselves; this is for what a lost or damaged hash left on the list.
Changes no stock.
May run at maxmemory: it frees memory.

KEYS
  1   order
  2   deadlines

ARGV
  1   orderNo

Replies
  dropped
  gone        it is not on the list (any more): nothing was changed
  kept        the order is held. Nothing was changed
]]
local orderKey, deadlinesKey = KEYS[1], KEYS[2]
local orderNo = ARGV[1]

-- A key of another type is no hold.
if redis.pcall('HGET', orderKey, 'hold') == 'held' then
  return { 'kept' }
end

-- Writes.
if redis.call('ZREM', deadlinesKey, orderNo) == 0 then
  return { 'gone' }
end
return { 'dropped' }
