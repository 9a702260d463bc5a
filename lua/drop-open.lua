#!lua flags=allow-oom
--[[
Take an order off the list of its user's open ones that has ended and that no script took off.

Call it only for an order that MySQL does not have as open.
Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   order
  2   open

ARGV
  1   orderNo
  2   userId

Replies
  dropped
  gone        it is not listed. Nothing was changed
  held        its stock is held: it is open yet, or its end is on its way. Nothing was changed
]]
local orderKey, openKey = KEYS[1], KEYS[2]
local orderNo, userId = ARGV[1], ARGV[2]

-- include shared/drop-open-order.lua

if redis.pcall('HGET', orderKey, 'hold') == 'held' then
  return { 'held' }
end

-- Writes.
if not dropOpenOrder(openKey, userId, orderNo) then
  return { 'gone' }
end
return { 'dropped' }
