#!lua flags=allow-oom
--[[
Count a user's units of some SKUs, and the holds that ended unpaid, under another name, so that the sale still adds
up when the name is erased. The list of open orders goes: none of an erased person is open.

Idempotent: what was moved is gone under the old name.
May run at maxmemory: it adds as many fields as it removes.

KEYS
  1   limits
  2   open
  3   unpaid

ARGV
  1   userId
  2   token       the name that takes its place
  3…  sku         one each

Replies
  renamed     units     that were moved, of all SKUs together
]]
local limitsKey, openKey, unpaidKey = KEYS[1], KEYS[2], KEYS[3]
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
local unpaid = redis.pcall('HGET', unpaidKey, userId)
if tonumber(unpaid) then
  redis.call('HINCRBY', unpaidKey, token, unpaid)
  redis.call('HDEL', unpaidKey, userId)
end
redis.pcall('HDEL', openKey, userId)
return { 'renamed', integer(moved) }
