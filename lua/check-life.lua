#!lua flags=allow-oom
--[[
Check whether this server is the one that a sale's data were made on.

The run id changes when Redis starts again, perhaps from an old file, and when another server takes over.
Idempotent. A sale from before `run_id` gets the server's.
May run at maxmemory: it writes one field at most.

KEYS
  1   sale
  2   stock
  3   limits
  4   outbox
  5   deadlines
  6   restored
  7   returns
  8   open
  9   unpaid

Replies
  well          epoch
  replaced      epoch     the data were made on another server, or before this one started
  suspended     epoch     a rebuild has begun and is not finished
  damaged       epoch     one of the keys is of another type than its own: scripts would fail at it, half-way even
  sale-absent             Redis does not have the sale, or something else in its place
]]
local saleKey, stockKey, limitsKey, outboxKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local deadlinesKey, restoredKey, returnsKey = KEYS[5], KEYS[6], KEYS[7]
local openKey, unpaidKey = KEYS[8], KEYS[9]

-- include shared/server.lua
-- include shared/key-type.lua

if isDamaged(saleKey, 'hash') then
  return { 'sale-absent' }
end
local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'suspended')
local epoch, runId, isSuspended = sale[1], sale[2], sale[3]
if not tonumber(epoch) then
  return { 'sale-absent' }
end
if not isOfServer(runId) then
  return { 'replaced', epoch }
end
if isSuspended then
  return { 'suspended', epoch }
end
if isDamaged(stockKey, 'hash') or isDamaged(limitsKey, 'hash') or isDamaged(outboxKey, 'stream')
  or isDamaged(deadlinesKey, 'zset') or isDamaged(restoredKey, 'set') or isDamaged(returnsKey, 'set')
  or isDamaged(openKey, 'hash') or isDamaged(unpaidKey, 'hash') then
  return { 'damaged', epoch }
end

-- Writes.
if not runId then
  redis.call('HSET', saleKey, 'run_id', serverRunId())
end
return { 'well', epoch }
