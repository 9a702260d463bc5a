#!lua
--[[
Put an order back into the outbox that was lost: it is held, or it was free and is sold, its entry no longer waits,
and no other store knows it.

Idempotent: it is put back only while its hash names the entry that was found lost, and afterwards it names
the new one.
Changes no stock.

KEYS
  1   order
  2   outbox

ARGV
  1   orderNo
  2   entry       the one that was found lost; empty: the hash named none

Replies
  requeued
  moved         its hash names another entry: it was put back before. Nothing was changed
  released      the hold has ended. Nothing was changed
  sold          as released, and its order was not free
  returned      as released
  absent        no such hold. Nothing was changed
]]
local orderKey, outboxKey = KEYS[1], KEYS[2]
local orderNo, entry = ARGV[1], ARGV[2]

local order = redis.call('HMGET', orderKey, 'hold', 'entry', 'total')
if not order[1] then
  return { 'absent' }
end
local isSoldFree = order[1] == 'sold' and order[3] == '0'
if order[1] ~= 'held' and not isSoldFree then
  return { order[1] }
end
if (order[2] or '') ~= entry then
  return { 'moved' }
end

-- Writes. What is left of the lost entry would count as backlog for ever.
if entry ~= '' then
  redis.call('XDEL', outboxKey, entry)
end
redis.call('HSET', orderKey, 'entry', redis.call('XADD', outboxKey, '*', 'order_no', orderNo))
return { 'requeued' }
