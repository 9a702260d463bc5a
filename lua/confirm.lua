#!lua flags=allow-oom
--[[
Turn an order's hold into a sale: held → sold.

Invariant: total = available + held + sold.
Idempotent: a repeat returns the earlier outcome.
Quantities come from the hold itself.
A free order is listed: MySQL alone knows it from now on, and no provider could tell of it.
A hold of an older epoch than the sale's is void: its stock was counted anew when the data were made again.
May run at maxmemory: it needs almost no new memory, and a paid order must not wait for memory.

KEYS
  1   order
  2   stock
  3   deadlines
  4   sale
  5   moves
  6   open
  7   free

ARGV
  1   orderNo
  2   epoch               of the orderNo, for a hold that does not say its own
  3   projectionTtlMs     how long the settled projection stays readable (ms)

Replies
  sold        now, or already before
  released    the stock had gone back earlier: nothing was changed
  returned    it had been sold and came back: nothing was changed
  absent      the hold is of an older epoch, or was: nothing was changed, and nothing is to be
  lost        no such hold, though it is of the sale's present epoch: nothing was changed
  sale-absent the sale's data are missing or about to be made again: nothing was changed, to be repeated
]]
local orderKey, stockKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3]
local saleKey, movesKey, openKey, freeKey = KEYS[4], KEYS[5], KEYS[6], KEYS[7]
local orderNo, epoch, projectionTtlMs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

-- include shared/clock.lua
-- include shared/server.lua
-- include shared/integer.lua
-- include shared/held-order.lua
-- include shared/drop-open-order.lua

local refusal, order = findHeldOrder(saleKey, orderKey, epoch)
if refusal then
  return refusal
end
local items = cjson.decode(order[2])

-- Writes.
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':held', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':sold', item.quantity)
end
redis.call('HSET', orderKey, 'hold', 'sold')
redis.call('ZREM', deadlinesKey, orderNo)
dropOpenOrder(openKey, order[3], orderNo)
if order[5] == '0' then
  -- What a hand put in the place of the list stops no order.
  redis.pcall('ZADD', freeKey, integer(nowMs()), orderNo)
end
-- For a look that goes on (`look-sale`), and there only.
redis.pcall('RPUSHX', movesKey, orderNo)
redis.call('PEXPIRE', orderKey, projectionTtlMs)
return { 'sold' }
