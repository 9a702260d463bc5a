#!lua flags=no-writes
--[[
Find of many orders whether their entry still waits in the outbox, so that a relay will come to them.

An order's hash names its entry, because the reservation writes both. An entry waits while it is in the stream
and was not delivered yet, or was delivered and not acknowledged. An entry that has stopped waiting never
waits again, but a requeued order has another one.
Changes nothing.

KEYS
  1   outbox
  2…  order

Replies, one an order
  waits       a relay will read its entry
  left        it is held, and no relay will read an entry of it: it is stored, or started, or lost
  settled     the hold has ended
  absent      Redis has no such order
  damaged     what Redis has is no order
]]
local outboxKey = KEYS[1]

-- The group that `outbox.ts` reads by. Without it no entry was delivered yet.
local group, delivered = 'relay', nil
local groups = redis.pcall('XINFO', 'GROUPS', outboxKey)
for _, fields in ipairs(groups.err and {} or groups) do
  if fields[2] == group then
    for i = 1, #fields, 2 do
      if fields[i] == 'last-delivered-id' then
        delivered = fields[i + 1]
      end
    end
  end
end

local function isAfter(one, other)
  local oneMs, oneSequence = string.match(one, '^(%d+)-(%d+)$')
  local otherMs, otherSequence = string.match(other, '^(%d+)-(%d+)$')
  if oneMs == otherMs then
    return tonumber(oneSequence) > tonumber(otherSequence)
  end
  return tonumber(oneMs) > tonumber(otherMs)
end

local function waits(entry)
  if not string.match(entry, '^%d+%-%d+$') or #redis.call('XRANGE', outboxKey, entry, entry) == 0 then
    return false
  end
  if not delivered or isAfter(entry, delivered) then
    return true
  end
  return #redis.call('XPENDING', outboxKey, group, entry, entry, 1) > 0
end

local replies = {}
for i, orderKey in ipairs(KEYS) do
  if i > 1 then
    local order = redis.pcall('HMGET', orderKey, 'hold', 'entry')
    if order.err then
      replies[#replies + 1] = 'damaged'
    elseif order[1] == 'held' then
      replies[#replies + 1] = waits(order[2] or '') and 'waits' or 'left'
    elseif order[1] then
      replies[#replies + 1] = 'settled'
    elseif redis.call('EXISTS', orderKey) == 1 then
      replies[#replies + 1] = 'damaged'
    else
      replies[#replies + 1] = 'absent'
    end
  end
end
return replies
