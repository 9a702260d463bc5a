#!lua flags=allow-oom
--[[
Record that a worker lives, by the clock of this server, and forget those that have been silent for long.

Idempotent.
May run at maxmemory: the hash has a field for each worker of the last minutes.

KEYS
  1   workers

ARGV
  1   workerId
  2   worker      JSON of what the worker tells of itself
  3   keptMs      a silent worker is shown for so long (ms)

Replies
  beating
]]
local workersKey = KEYS[1]
local workerId, worker, keptMs = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- include shared/integer.lua
-- include shared/clock.lua

local now = nowMs()
local silent = {}
local all = redis.call('HGETALL', workersKey)
for i = 1, #all, 2 do
  local seenAt = tonumber(string.match(all[i + 1], '^(%d+) '))
  if not seenAt or seenAt < now - keptMs then
    silent[#silent + 1] = all[i]
  end
end

-- Writes.
if #silent > 0 then
  redis.call('HDEL', workersKey, unpack(silent))
end
redis.call('HSET', workersKey, workerId, integer(now) .. ' ' .. worker)
return { 'beating' }
