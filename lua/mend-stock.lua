#!lua flags=allow-oom
--[[
Correct the counters of a SKU by a difference that was found wrong.

Differences are added, because the sale goes on meanwhile. `mends` counts the corrections of a sale, so that a
repeat, or another process that found the same, changes nothing.
Invariant: afterwards total = available + held + sold, even if fewer than no units are available: then none is
sold until holds have ended.
May run at maxmemory: it rewrites fields that exist.

KEYS
  1   sale
  2   stock

ARGV
  1   sku
  2   epoch         in which the difference was found
  3   mends         corrections of the sale when it was found
  4   changeNo      of the sale's last change then
  5   total         units, as MySQL has them after this change
  6   heldDelta     units to add, or to take away where negative
  7   soldDelta     as heldDelta

Replies
  mended          available, held, sold
  moved           the data were made again, the sale was changed, or another correction came first. Nothing
                  was changed
]]
local saleKey, stockKey = KEYS[1], KEYS[2]
local sku, epoch, mends, changeNo, total = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local heldDelta, soldDelta = tonumber(ARGV[6]), tonumber(ARGV[7])

-- include shared/integer.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'rebuilding', 'mends', 'change_no')
local stock = redis.call('HMGET', stockKey, sku .. ':held', sku .. ':sold')
if sale[1] ~= epoch or sale[2] or (sale[3] or '0') ~= mends or (sale[4] or '1') ~= changeNo then
  return { 'moved' }
end
local held, sold = tonumber(stock[1]) + heldDelta, tonumber(stock[2]) + soldDelta
local available = total - held - sold

-- Writes.
redis.call('HSET', stockKey,
  sku .. ':total', integer(total), sku .. ':available', integer(available),
  sku .. ':held', integer(held), sku .. ':sold', integer(sold))
redis.call('HINCRBY', saleKey, 'mends', 1)
return { 'mended', integer(available), integer(held), integer(sold) }
