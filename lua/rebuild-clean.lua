#!lua flags=allow-oom
--[[
Remove those of these keys that are no hash, before the rebuild writes them.

For orders, idempotency entries and tickets that MySQL has: what a hand or a fault put in their place is worth
nothing. A write of the rebuild would fail, and no script could read the order.
Idempotent.
May run at maxmemory: it frees memory.

KEYS
  1   sale
  2…  target

ARGV
  1   epoch       of the rebuild

Replies
  cleaned         removed (keys)
  superseded      another rebuild has begun, or the server is another: nothing was changed
]]
local saleKey = KEYS[1]
local epoch = ARGV[1]

-- include shared/server.lua
-- include shared/integer.lua
-- include shared/key-type.lua

local sale = redis.call('HMGET', saleKey, 'rebuilding', 'rebuilding_run_id')
if sale[1] ~= epoch or sale[2] ~= serverRunId() then
  return { 'superseded' }
end

-- Writes.
local removed = 0
for i, targetKey in ipairs(KEYS) do
  if i > 1 and isDamaged(targetKey, 'hash') then
    redis.call('UNLINK', targetKey)
    removed = removed + 1
  end
end
return { 'cleaned', integer(removed) }
