#!lua flags=allow-oom
--[[
Remove the consumers of relays that have ended from an outbox's group.

Removing a consumer drops what is pending for it, and an entry that is neither pending nor new is read by no
relay. So looking and removing are one step: no entry is delivered in between.
The consumer that asks shows with it that it lives: before Redis 7.2 a read that finds nothing does not count.
A consumer that was removed and lives on is made again by its next read, also by a read that waits meanwhile.
May run at maxmemory: it only frees memory.

KEYS
  1   outbox

ARGV
  1   group
  2   self        the consumer that asks
  3   minIdleMs   a consumer that has done nothing for so long has ended (ms)

Replies
  removed     count
]]
local outboxKey = KEYS[1]
local group, self, minIdleMs = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- include shared/consumers.lua

-- Reads what it has pending after an id that is as great as ids get, so nothing is delivered.
local pastAll = '18446744073709551615-18446744073709551614'
redis.call('XREADGROUP', 'GROUP', group, self, 'COUNT', 1, 'STREAMS', outboxKey, pastAll)
local idle = {}
for _, consumer in ipairs(consumersOf(outboxKey, group)) do
  if consumer.name ~= self and consumer.pending == 0 and consumer.idle >= minIdleMs then
    idle[#idle + 1] = consumer.name
  end
end

-- Writes.
for _, name in ipairs(idle) do
  redis.call('XGROUP', 'DELCONSUMER', outboxKey, group, name)
end
return { 'removed', #idle }
