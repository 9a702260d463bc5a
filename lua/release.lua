#!lua flags=allow-oom
--[[
Give an order's hold back: held → released, stock and the user's allowance alike.

Call it only after MySQL has committed the order's end: MySQL gives back before Redis, so Redis never offers a
unit that MySQL still counts.
Invariant: total = available + held + sold.
Idempotent: a repeat returns the earlier outcome.
Quantities come from the hold itself.
A hold of an older epoch than the sale's is void: its stock was counted anew when the data were made again.
May run at maxmemory: giving back must always work.

KEYS
  1   order
  2   stock
  3   limits
  4   deadlines
  5   sale
  6   moves
  7   open
  8   unpaid

ARGV
  1   orderNo
  2   epoch               of the orderNo, for a hold that does not say its own
  3   projectionTtlMs     how long the settled projection stays readable (ms)
  4   isUnpaid            1: the user let it end without payment, which is counted with this step; 0: others did

Replies
  released    now, or already before
  sold        the order was paid: nothing was changed
  returned    it had been sold and came back: nothing was changed
  absent      the hold is of an older epoch, or was: nothing was changed, and nothing is to be
  lost        no such hold, though it is of the sale's present epoch: nothing was changed
  sale-absent the sale's data are missing or about to be made again: nothing was changed, to be repeated
]]
local orderKey, stockKey, limitsKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local saleKey, movesKey, openKey, unpaidKey = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local orderNo, epoch, projectionTtlMs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local isUnpaid = ARGV[4]

-- include shared/server.lua
-- include shared/limit-field.lua
-- include shared/held-order.lua
-- include shared/drop-open-order.lua

local refusal, order = findHeldOrder(saleKey, orderKey, epoch)
if refusal then
  return refusal
end
local items, userId = cjson.decode(order[2]), order[3]

-- Writes.
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':held', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':available', item.quantity)
  local field = limitField(item.sku, userId)
  if redis.call('HINCRBY', limitsKey, field, -item.quantity) <= 0 then
    redis.call('HDEL', limitsKey, field)
  end
end
if isUnpaid == '1' then
  redis.pcall('HINCRBY', unpaidKey, userId, 1)
end
-- Should the hold be restored, its count goes.
redis.call('HSET', orderKey, 'hold', 'released', 'unpaid', isUnpaid)
redis.call('ZREM', deadlinesKey, orderNo)
dropOpenOrder(openKey, userId, orderNo)
-- For a look that goes on (`look-sale`), and there only.
redis.pcall('RPUSHX', movesKey, orderNo)
redis.call('PEXPIRE', orderKey, projectionTtlMs)
return { 'released' }
