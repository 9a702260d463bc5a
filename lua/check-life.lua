#!lua flags=allow-oom
--[[
Check whether this server is the one that a sale's data were made on.

The run id changes when Redis starts again, perhaps from an old file, and when another server takes over.
Idempotent. A sale from before `run_id` gets the server's.
May run at maxmemory: it writes one field at most.

KEYS
  1   sale

Replies
  well          epoch
  replaced      epoch     the data were made on another server, or before this one started
  suspended     epoch     a rebuild has begun and is not finished
  sale-absent             Redis does not have the sale
]]
local saleKey = KEYS[1]

-- include shared/server.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'suspended')
local epoch, runId, isSuspended = sale[1], sale[2], sale[3]
if not epoch then
  return { 'sale-absent' }
end
if not isOfServer(runId) then
  return { 'replaced', epoch }
end
if isSuspended then
  return { 'suspended', epoch }
end

-- Writes.
if not runId then
  redis.call('HSET', saleKey, 'run_id', serverRunId())
end
return { 'well', epoch }
