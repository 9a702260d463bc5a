#!lua flags=no-writes
--[[
List the workers that have told of themselves, with the clock of this server.

Changes nothing.

KEYS
  1   workers

Replies
  workers   now (Unix ms), worker…    each: when it was seen (Unix ms), a space, and JSON
]]
local workersKey = KEYS[1]

-- include shared/integer.lua
-- include shared/clock.lua

return { 'workers', integer(nowMs()), unpack(redis.call('HVALS', workersKey)) }
