-- Finds an order whose hold may be ended: the list of its `hold`, `items`, `user_id`, `epoch` and `total`.
-- Otherwise the first result is the script's reply, and nothing is to be changed.
-- The hold of an older epoch than the sale's is void: its stock was counted anew when the data were made again.
local function findHeldOrder(saleKey, orderKey, epochOfOrderNo)
  local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding')
  if not sale[1] or sale[3] or not isOfServer(sale[2]) then
    return { 'sale-absent' }
  end
  local saleEpoch = tonumber(sale[1])
  local order = redis.call('HMGET', orderKey, 'hold', 'items', 'user_id', 'epoch', 'total')
  local holdEpoch = tonumber(order[4]) or epochOfOrderNo
  if holdEpoch > saleEpoch then
    return { 'sale-absent' }
  end
  if holdEpoch < saleEpoch then
    return { 'absent' }
  end
  if not order[1] then
    return { 'lost' }
  end
  if order[1] ~= 'held' then
    return { order[1] }
  end
  return nil, order
end
