#!lua flags=allow-oom
--[[
Pause a sale because its data are about to be made again.

It is not the shop's own pause: the end of the rebuild lifts it. Orders that wait in the outbox are still
stored, and holds still end.
Idempotent.
May run at maxmemory: it writes one field.

KEYS
  1   sale

Replies
  suspended
  sale-absent     Redis does not have the sale, or something else in its place: nothing was changed
]]
local saleKey = KEYS[1]

-- include shared/key-type.lua

if isDamaged(saleKey, 'hash') or redis.call('HEXISTS', saleKey, 'epoch') == 0 then
  return { 'sale-absent' }
end

-- Writes.
redis.call('HSET', saleKey, 'suspended', '1')
return { 'suspended' }
