-- Whether there is something else than a key of this type: a hand or a fault put it there.
local function isDamaged(key, type)
  local found = redis.call('TYPE', key).ok
  return found ~= type and found ~= 'none'
end
