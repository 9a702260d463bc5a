#!lua flags=allow-oom
--[[
Remove what Redis has of an order that has ended: its hash, and the entry by which its request was repeated.

Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   order
  2   idem

Replies
  forgotten
  held        its stock is held still. Nothing was changed
]]
local orderKey, idemKey = KEYS[1], KEYS[2]

if redis.pcall('HGET', orderKey, 'hold') == 'held' then
  return { 'held' }
end

-- Writes.
redis.call('UNLINK', orderKey, idemKey)
return { 'forgotten' }
