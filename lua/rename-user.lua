#!lua flags=allow-oom
--[[
Count a user's units of some SKUs under another name, so that the sale still adds up when the name is erased.

Idempotent: what was moved is gone under the old name.
May run at maxmemory: it adds as many fields as it removes.

KEYS
  1   limits

ARGV
  1   userId
  2   token       the name that takes its place
  3…  sku         one each

Replies
  renamed     units     that were moved, of all SKUs together
]]
local limitsKey = KEYS[1]
local userId, token = ARGV[1], ARGV[2]
local firstRepeated = 3

-- include shared/limit-field.lua
-- include shared/integer.lua

-- Writes.
local moved = 0
for i = firstRepeated, #ARGV do
  local sku = ARGV[i]
  local units = tonumber(redis.call('HGET', limitsKey, limitField(sku, userId)))
  if units then
    redis.call('HINCRBY', limitsKey, limitField(sku, token), units)
    redis.call('HDEL', limitsKey, limitField(sku, userId))
    moved = moved + units
  end
end
return { 'renamed', integer(moved) }
