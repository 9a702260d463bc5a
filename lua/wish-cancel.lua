#!lua flags=allow-oom
--[[
Note beside an order's hold that its caller wants it cancelled, while MySQL does not take the wish.

Only for an order that is held and that MySQL is not known to have: whoever stores it stores the wish with it, or
learns of it by `project` afterwards, and MySQL then decides. Nothing is released here.
Not for a free order: whoever has read it without the wish stores it as paid, and no wish comes after that.
The wish stays as long as the hold does, also where the hold is made again.
Idempotent: the first wish stays.
May run at maxmemory: what it notes leads to an end.

KEYS
  1   order

ARGV
  1   reason      of the end that is wished

Replies
  wished      now, or already before
  stored      MySQL has the order: nothing was changed, and it is to be asked
  ended       the hold has ended: nothing was changed
  absent      no such order, or a free one: nothing was changed, and MySQL is to take the wish
]]
local orderKey = KEYS[1]
local reason = ARGV[1]

local order = redis.call('HMGET', orderKey, 'hold', 'version', 'total')
if not order[1] or order[3] == '0' then
  return { 'absent' }
end
if order[1] ~= 'held' then
  return { 'ended' }
end
if order[2] ~= '0' then
  return { 'stored' }
end

-- Writes.
redis.call('HSETNX', orderKey, 'wish', reason)
return { 'wished' }
