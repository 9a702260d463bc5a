-- The open orders of each user, the newest last: numbers that a reader looks up. What a hand put in the place of
-- the list stops no script: the list is made again.
local openMax = 20

-- Of those that are too many the oldest goes.
local function addOpenOrder(openKey, userId, orderNo)
  if redis.pcall('HSETNX', openKey, userId, orderNo) == 1 then
    return
  end
  local found, kept = redis.pcall('HGET', openKey, userId), {}
  for one in string.gmatch(type(found) == 'string' and found or '', '%S+') do
    if one ~= orderNo then
      kept[#kept + 1] = one
    end
  end
  kept[#kept + 1] = orderNo
  redis.pcall('HSET', openKey, userId, table.concat(kept, ' ', math.max(1, #kept - openMax + 1)))
end
