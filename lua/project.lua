#!lua flags=allow-oom
--[[
Copy an order's state from MySQL into the projection that pollers read.

Only a greater version is applied, so a late or repeated copy never turns a status back. The script touches no
stock.
May run at maxmemory: it rewrites fields that exist.

KEYS
  1   order

ARGV
  1   version     of the state, assigned by MySQL
  2   status
  3   payment
  4   reason      empty: none

Replies
  projected
  stale       version     this or a newer version is there already
  absent                  the projection has expired or was lost; MySQL answers instead
]]
local orderKey = KEYS[1]
local version, status, payment, reason = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]

local current = redis.call('HGET', orderKey, 'version')
if not current then
  return { 'absent' }
end
if tonumber(current) >= version then
  return { 'stale', current }
end

-- Writes.
redis.call('HSET', orderKey, 'version', ARGV[1], 'status', status, 'payment', payment, 'reason', reason)
return { 'projected' }
