-- Takes an order off the list of its user's open ones. The mark that others went from it stays, as they may be
-- open. Whether it was there.
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
  if isListed then
    redis.pcall('HSET', openKey, userId, table.concat(kept, ' '))
  end
  return isListed
end
