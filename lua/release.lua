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

ARGV
  1   orderNo
  2   epoch               of the orderNo, for a hold that does not say its own
  3   projectionTtlMs     how long the settled projection stays readable (ms)

Replies
  released    now, or already before
  sold        the order was paid: nothing was changed
  returned    it had been sold and came back: nothing was changed
  absent      the hold is of an older epoch, or was: nothing was changed, and nothing is to be
  lost        no such hold, though it is of the sale's present epoch: nothing was changed
  sale-absent the sale's data are missing or about to be made again: nothing was changed, to be repeated
]]
local orderKey, stockKey, limitsKey, deadlinesKey, saleKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local orderNo, epoch, projectionTtlMs = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local function serverRunId()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end

-- As `limitField` in `src/stores/redis/keys.ts`.
local function limitField(sku, user)
  return (string.gsub(string.gsub(sku, '%%', '%%25'), ':', '%%3A')) .. ':' .. user
end

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding')
-- A sale from before `run_id` is trusted.
if not sale[1] or sale[3] or (sale[2] and sale[2] ~= serverRunId()) then
  return { 'sale-absent' }
end
local saleEpoch = tonumber(sale[1])
local order = redis.call('HMGET', orderKey, 'hold', 'items', 'user_id', 'epoch')
local holdEpoch = tonumber(order[4]) or epoch
if holdEpoch > saleEpoch then
  return { 'sale-absent' }
end
if holdEpoch < saleEpoch then
  return { 'absent' }
end
if not order[1] then
  return { 'lost' }
end
if order[1] ~= 'held' then
  return { order[1] }
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
redis.call('HSET', orderKey, 'hold', 'released')
redis.call('ZREM', deadlinesKey, orderNo)
redis.call('PEXPIRE', orderKey, projectionTtlMs)
return { 'released' }
