#!lua flags=allow-oom
--[[
Admit orders into the engine, in the order given, as far as its budget has room.

The budget is one set over all processes. Each order in flight holds a slot, as a lease that ends by itself
when no process gives it back.
Invariant: never more members than slots.
Idempotent: an order that holds a slot keeps it, with a new lease.
May run at maxmemory: the set is as small as the budget, and orders that hold stock must go on.

KEYS
  1   engine

ARGV
  1   slots       orders in flight at most
  2   leaseMs     length of a lease (ms)
  3…  orderNo     one each

Replies
  admitted    room, orderNo…    the slots that are still free, and the orders that hold one now
]]
local engineKey = KEYS[1]
local slots, leaseMs = tonumber(ARGV[1]), tonumber(ARGV[2])
local firstRepeated = 3

-- include shared/integer.lua
-- include shared/clock.lua

local now = nowMs()

-- Writes.
redis.call('ZREMRANGEBYSCORE', engineKey, '-inf', integer(now))
local room = math.max(0, slots - redis.call('ZCARD', engineKey))
local admitted = {}
for i = firstRepeated, #ARGV do
  local orderNo = ARGV[i]
  local holds = redis.call('ZSCORE', engineKey, orderNo)
  if holds or room > 0 then
    redis.call('ZADD', engineKey, integer(now + leaseMs), orderNo)
    admitted[#admitted + 1] = orderNo
    if not holds then
      room = room - 1
    end
  end
end
return { 'admitted', integer(room), unpack(admitted) }
