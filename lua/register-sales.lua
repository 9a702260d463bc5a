#!lua flags=allow-oom
--[[
Put sales on the list of those whose outboxes relays read.

The list may have been lost while the sales live on; something else in its place is removed.
Idempotent.
May run at maxmemory: the list is small, and without it accepted orders would not be stored.

KEYS
  1   sales

ARGV
  1…  sale        as `saleId.shard`, one each

Replies
  registered      added   JSON list of the sales that were not on the list
]]
local salesKey = KEYS[1]
local firstRepeated = 1

-- include shared/key-type.lua

-- Writes.
if isDamaged(salesKey, 'set') then
  redis.call('UNLINK', salesKey)
end
local added = {}
for i = firstRepeated, #ARGV do
  local sale = ARGV[i]
  if redis.call('SADD', salesKey, sale) == 1 then
    added[#added + 1] = sale
  end
end
return { 'registered', cjson.encode(added) }
