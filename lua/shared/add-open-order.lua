-- The open orders of each user, the newest last: numbers that a reader looks up. What a hand put in the place of
-- the list stops no script: the list is made again.
local openMax = 20

-- A list that is full drops its oldest order. From then on it begins with `+` and the time of the last drop (Unix ms):
-- more orders may be open than it shows.
local function withNewest(list, orderNo)
  -- Most often. The numbers of a sale are about as long as each other, so this list has fewer.
  if #list < (openMax - 2) * #orderNo and not string.find(list, orderNo, 1, true) then
    return list .. ' ' .. orderNo
  end
  local kept, mark = {}, ''
  for one in string.gmatch(list, '%S+') do
    if string.sub(one, 1, 1) == '+' then
      mark = one .. ' '
    elseif one ~= orderNo then
      kept[#kept + 1] = one
    end
  end
  kept[#kept + 1] = orderNo
  if #kept > openMax then
    mark = '+' .. integer(nowMs()) .. ' '
  end
  return mark .. table.concat(kept, ' ', math.max(1, #kept - openMax + 1))
end

-- Of each its `userId` and `orderNo`. Two commands for all: a command costs more than what it does here.
local function addOpenOrders(openKey, orders)
  local userIds, lists, fields = {}, {}, {}
  for i, order in ipairs(orders) do
    userIds[i] = order.userId
  end
  local found = redis.pcall('HMGET', openKey, unpack(userIds))
  for i, order in ipairs(orders) do
    local userId, orderNo = order.userId, order.orderNo
    local list = lists[userId] or found[i]
    lists[userId] = list and withNewest(list, orderNo) or orderNo
    -- Of a user who comes twice the last value counts.
    fields[2 * i - 1], fields[2 * i] = userId, lists[userId]
  end
  redis.pcall('HSET', openKey, unpack(fields))
end
