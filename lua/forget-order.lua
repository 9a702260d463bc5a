#!lua flags=allow-oom
--[[
Remove what Redis has of an order that has ended: its hash, the entry by which its request was repeated, and its place
among its user's open orders.

Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   order
  2   idem
  3   open

ARGV
  1   orderNo
  2   userId

Replies
  forgotten
  held        its stock is held still. Nothing was changed
]]
local orderKey, idemKey, openKey = KEYS[1], KEYS[2], KEYS[3]
local orderNo, userId = ARGV[1], ARGV[2]

-- include shared/drop-open-order.lua

if redis.pcall('HGET', orderKey, 'hold') == 'held' then
  return { 'held' }
end

-- Writes.
redis.call('UNLINK', orderKey, idemKey)
dropOpenOrder(openKey, userId, orderNo)
return { 'forgotten' }
