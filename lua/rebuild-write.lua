#!lua flags=allow-oom
--[[
Write fields or members of one key of a sale that is being rebuilt.

The values are absolute, so a repeat changes nothing.
Idempotent.
May run at maxmemory: as much was there before.

KEYS
  1   sale
  2   target

ARGV
  1   epoch           of the rebuild
  2   type            hash, set (the values are ignored), or sorted-set (the values are scores)
  3   expiresAtMs     end of the key (Unix ms); 0: it has none
  4…  field, value    one pair each

Replies
  written
  superseded      another rebuild has begun, or the server is another: nothing was changed
]]
local saleKey, targetKey = KEYS[1], KEYS[2]
local epoch, type, expiresAtMs = ARGV[1], ARGV[2], tonumber(ARGV[3])
local firstRepeated = 4

-- include shared/server.lua

local sale = redis.call('HMGET', saleKey, 'rebuilding', 'rebuilding_run_id')
if sale[1] ~= epoch or sale[2] ~= serverRunId() then
  return { 'superseded' }
end

-- Writes.
for i = firstRepeated, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if type == 'hash' then
    redis.call('HSET', targetKey, field, value)
  elseif type == 'set' then
    redis.call('SADD', targetKey, field)
  else
    redis.call('ZADD', targetKey, value, field)
  end
end
if expiresAtMs > 0 then
  redis.call('PEXPIREAT', targetKey, ARGV[3])
end
return { 'written' }
