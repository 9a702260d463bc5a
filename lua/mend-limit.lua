#!lua flags=allow-oom
--[[
Correct what a user is counted to hold or own of a SKU, by a difference that was found wrong.

As in `mend-stock`, the difference is added, and `mends` keeps a repeat from adding it again.
May run at maxmemory: it rewrites one field, or adds one that was there.

KEYS
  1   sale
  2   limits

ARGV
  1   field         SKU and user
  2   epoch         in which the difference was found
  3   mends         corrections of the sale when it was found
  4   delta         units to add, or to take away where negative

Replies
  mended      units
  moved       the data were made again, or another correction came first. Nothing was changed
]]
local saleKey, limitsKey = KEYS[1], KEYS[2]
local field, epoch, mends, delta = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])

-- include shared/integer.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'rebuilding', 'mends')
if sale[1] ~= epoch or sale[2] or (sale[3] or '0') ~= mends then
  return { 'moved' }
end

-- Writes.
local units = redis.call('HINCRBY', limitsKey, field, delta)
if units <= 0 then
  redis.call('HDEL', limitsKey, field)
end
redis.call('HINCRBY', saleKey, 'mends', 1)
return { 'mended', integer(units) }
