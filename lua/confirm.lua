#!lua flags=allow-oom
--[[
Turn an order's hold into a sale: held → sold.

Invariant: total = available + held + sold.
Idempotent: a repeat returns the earlier outcome.
Quantities come from the hold itself.
May run at maxmemory: it needs almost no new memory, and a paid order must not wait for memory.

KEYS
  1   order
  2   stock
  3   deadlines

ARGV
  1   orderNo
  2   projectionTtlMs     how long the settled projection stays readable (ms)

Replies
  sold        now, or already before
  released    the stock had gone back earlier: nothing was changed
  returned    it had been sold and came back: nothing was changed
  absent      no such hold: nothing was changed
]]
local orderKey, stockKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3]
local orderNo, projectionTtlMs = ARGV[1], tonumber(ARGV[2])

local order = redis.call('HMGET', orderKey, 'hold', 'items')
if not order[1] then
  return { 'absent' }
end
if order[1] ~= 'held' then
  return { order[1] }
end
local items = cjson.decode(order[2])

-- Writes.
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':held', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':sold', item.quantity)
end
redis.call('HSET', orderKey, 'hold', 'sold')
redis.call('ZREM', deadlinesKey, orderNo)
redis.call('PEXPIRE', orderKey, projectionTtlMs)
return { 'sold' }
