-- Takes an order off the list of its user's open ones, and with the last one the mark that others went from it:
-- those are older, and have left the outbox before. Whether it was there.
local function dropOpenOrder(openKey, userId, orderNo)
  local found = redis.pcall('HGET', openKey, userId)
  if found == orderNo then
    redis.pcall('HDEL', openKey, userId)
    return true
  end
  if type(found) ~= 'string' then
    return false
  end
  local kept, isListed = {}, false
  for one in string.gmatch(found, '%S+') do
    if one == orderNo then
      isListed = true
    else
      kept[#kept + 1] = one
    end
  end
  if isListed and (kept[1] == nil or (kept[1] == '+' and kept[2] == nil)) then
    redis.pcall('HDEL', openKey, userId)
  elseif isListed then
    redis.pcall('HSET', openKey, userId, table.concat(kept, ' '))
  end
  return isListed
end
