#!lua flags=allow-oom
--[[
Take over entries of an outbox that relays have read and not acknowledged, from those that no longer live.

A relay lives that is named here, or that has done something in this group lately: one that has just begun is
not named yet. Storing an order twice does no harm, so a relay that was only slow may go on with its entries.
May run at maxmemory: it only changes whose an entry is.

KEYS
  1   outbox

ARGV
  1   group
  2   self        the consumer that takes over
  3   count       entries at most
  4   silentMs    a consumer that is not named and has done nothing for so long does not live (ms)
  5…  living      names of consumers

Replies
  taken       count
]]
local outboxKey = KEYS[1]
local group, self, count, silentMs = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])

local firstRepeated = 5

-- include shared/consumers.lua

local isLiving = { [self] = true }
for i = firstRepeated, #ARGV do
  local living = ARGV[i]
  isLiving[living] = true
end

local entries = {}
for _, consumer in ipairs(consumersOf(outboxKey, group)) do
  local room = count - #entries
  if room > 0 and consumer.pending > 0 and consumer.idle >= silentMs and not isLiving[consumer.name] then
    for _, pending in ipairs(redis.call('XPENDING', outboxKey, group, '-', '+', room, consumer.name)) do
      entries[#entries + 1] = pending[1]
    end
  end
end

-- Writes.
for _, entryId in ipairs(entries) do
  redis.call('XCLAIM', outboxKey, group, self, 0, entryId, 'JUSTID')
end
return { 'taken', #entries }
