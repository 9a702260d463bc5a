#!lua flags=allow-oom
--[[
Admit orders into the engine, as far as its budget has room, in the order given.

The budget is one set over all processes: each order in flight holds a slot, as a lease that ends by itself when whoever
took it never gives it back. Invariant: never more members than slots. Idempotent: an order that holds a slot keeps it,
with a new lease. May run at maxmemory: the set is as small as the budget, and orders that hold stock must go on.

KEYS  1 engine
ARGV  1 slots  2 length of a lease (ms)  3… orderNo

Replies
  admitted    room, orderNo…    slots that are still free, and those that hold one now
]]
local engineKey = KEYS[1]
local slots, leaseMs = tonumber(ARGV[1]), tonumber(ARGV[2])
local firstRepeated = 3

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Writes.
redis.call('ZREMRANGEBYSCORE', engineKey, '-inf', string.format('%.0f', now))
local room = math.max(0, slots - redis.call('ZCARD', engineKey))
local admitted = {}
for i = firstRepeated, #ARGV do
  local holds = redis.call('ZSCORE', engineKey, ARGV[i])
  if holds or room > 0 then
    redis.call('ZADD', engineKey, string.format('%.0f', now + leaseMs), ARGV[i])
    admitted[#admitted + 1] = ARGV[i]
    if not holds then
      room = room - 1
    end
  end
end
return { 'admitted', string.format('%.0f', room), unpack(admitted) }
