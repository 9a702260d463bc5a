#!lua flags=allow-oom
--[[
Copy the states of orders from MySQL into the projections that pollers read.

Only a greater version is applied, so a late or repeated copy never turns a status back. The script touches no
stock.
May run at maxmemory: it rewrites fields that exist.

KEYS
  1…  order       one an order, in the order of ARGV

ARGV
  1…  version, status, payment, reason    one set an order; assigned by MySQL, an empty reason is none

Replies, one an order
  projected
  stale           this or a newer version is there already
  absent          the projection has expired or was lost; MySQL answers instead
]]
local firstRepeated = 1

local replies = {}
for i = firstRepeated, #ARGV, 4 do
  local version, status, payment, reason = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local orderKey = KEYS[#replies + 1]
  local current = redis.call('HGET', orderKey, 'version')
  if not current then
    replies[#replies + 1] = 'absent'
  elseif tonumber(current) >= tonumber(version) then
    replies[#replies + 1] = 'stale'
  else
    redis.call('HSET', orderKey, 'version', version, 'status', status, 'payment', payment, 'reason', reason)
    replies[#replies + 1] = 'projected'
  end
end
return replies
