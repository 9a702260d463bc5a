#!lua flags=no-writes
--[[
Read the clock of the server that has a sale's data.

What is decided there later can be too late by this very clock, whatever the clocks of processes say.
Changes nothing.

KEYS
  1   sale

Replies
  time    now (Unix ms), runId (of the server)
]]
-- The clock of a cluster's node: that of this key.
local saleKey = KEYS[1]

-- include shared/clock.lua
-- include shared/server.lua
-- include shared/integer.lua

return { 'time', integer(nowMs()), serverRunId() }
