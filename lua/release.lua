#!lua flags=allow-oom
--[[
Give an order's hold back: held → released, stock and the user's allowance alike.

Call it only after MySQL has committed the order's end: MySQL gives back before Redis, so Redis never offers a
unit that MySQL still counts.
Invariant: total = available + held + sold.
Idempotent: a repeat returns the earlier outcome.
Quantities come from the hold itself.
May run at maxmemory: giving back must always work.

KEYS
  1   order
  2   stock
  3   limits
  4   deadlines

ARGV
  1   orderNo
  2   projectionTtlMs     how long the settled projection stays readable (ms)

Replies
  released    now, or already before
  sold        the order was paid: nothing was changed
  returned    it had been sold and came back: nothing was changed
  absent      no such hold: nothing was changed
]]
local orderKey, stockKey, limitsKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local orderNo, projectionTtlMs = ARGV[1], tonumber(ARGV[2])

local order = redis.call('HMGET', orderKey, 'hold', 'items', 'user_id')
if not order[1] then
  return { 'absent' }
end
if order[1] ~= 'held' then
  return { order[1] }
end
local items, userId = cjson.decode(order[2]), order[3]

-- Writes.
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':held', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':available', item.quantity)
  local field = item.sku .. ':' .. userId
  if redis.call('HINCRBY', limitsKey, field, -item.quantity) <= 0 then
    redis.call('HDEL', limitsKey, field)
  end
end
redis.call('HSET', orderKey, 'hold', 'released')
redis.call('ZREM', deadlinesKey, orderNo)
redis.call('PEXPIRE', orderKey, projectionTtlMs)
return { 'released' }
