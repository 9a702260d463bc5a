#!lua flags=allow-oom
--[[
End a rebuild: put the sale's rules and its stock in place, under the new epoch, and let the sale go on.

Invariant: total = available + held + sold, as MySQL has them.
Idempotent: a repeat finds the new epoch.
May run at maxmemory: as much was there before.

KEYS
  1   sale
  2   stock

ARGV
  1   epoch                  of the rebuild
  2   undecidedFrom          the first epoch whose orders were never answered as lost
  3…  hash, field, value     hash: sale or stock

Replies
  resumed
  superseded      another rebuild has begun, or the server is another: nothing was changed
]]
local saleKey, stockKey = KEYS[1], KEYS[2]
local epoch, undecidedFrom = ARGV[1], ARGV[2]
local firstRepeated = 3

-- include shared/server.lua
-- include shared/clock.lua
-- include shared/integer.lua

local sale = redis.call('HMGET', saleKey, 'rebuilding', 'rebuilding_run_id', 'epoch', 'suspended')
if sale[3] == epoch and not sale[4] then
  return { 'resumed' }
end
local runId = serverRunId()
if sale[1] ~= epoch or sale[2] ~= runId then
  return { 'superseded' }
end

-- Writes.
redis.call('DEL', saleKey, stockKey)
for i = firstRepeated, #ARGV, 3 do
  local hash, field, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  redis.call('HSET', hash == 'sale' and saleKey or stockKey, field, value)
end
redis.call('HSET', saleKey,
  'epoch', epoch, 'run_id', runId, 'rebuilt_at', integer(nowMs()), 'undecided_from', undecidedFrom)
return { 'resumed' }
