#!lua flags=allow-oom
--[[
Give back what a refunded order had bought, all or a part of it: units (sold → returned), their user's allowance,
or both.

Call it only after MySQL has committed what goes back: MySQL gives back before Redis.
Invariant: total = available + held + sold.
Each of the two happens once for each part, however often it is asked for: `returns` records it and never expires,
while the order's hash expires.
`<sku>:give_backs` in the stock counts how often something of a SKU came back. By it a reader of the stock and
then of `returns` knows whether both are of one moment.
The user comes from the hold; where the hold has expired, or is of an older epoch than the sale's, from the
arguments.
May run at maxmemory: giving back must always work.

KEYS
  1   order
  2   stock
  3   limits
  4   returns
  5   sale

ARGV
  1   orderNo
  2   epoch            of the orderNo, for a hold that does not say its own
  3   userId
  4   items            JSON list of sku, quantity (units): those of this part
  5   isLimitAsked     1: the allowance goes back; 0: it does not
  6   isStockAsked     1: the units go back; 0: they do not
  7   part             the refund that it belongs to; empty: all that the parts have left

Replies
  returned      all that was asked for has gone back, now or before
  held          not sold yet: nothing was changed; a call after the sale gives back
  released      the order was never sold, and had all of it back: nothing was changed
  sale-absent   the sale's data are missing or about to be made again: nothing was changed, to be repeated
  not-sold      sku       fewer units are sold than would come back: nothing was changed
]]
local orderKey, stockKey, limitsKey, returnsKey, saleKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local orderNo, epoch, userId, items = ARGV[1], tonumber(ARGV[2]), ARGV[3], cjson.decode(ARGV[4])
local isLimitAsked, isStockAsked = ARGV[5] == '1', ARGV[6] == '1'
local part = ARGV[7]
local suffix = part == '' and '' or ':' .. part
local stockMark, limitMark = orderNo .. ':stock' .. suffix, orderNo .. ':limit' .. suffix

-- include shared/server.lua
-- include shared/limit-field.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding')
if not sale[1] or sale[3] or not isOfServer(sale[2]) then
  return { 'sale-absent' }
end
if redis.call('EXISTS', stockKey) == 0 then
  return { 'sale-absent' }
end
local order = redis.call('HMGET', orderKey, 'hold', 'user_id', 'epoch')
local hold = order[1]
if hold and (tonumber(order[3]) or epoch) < tonumber(sale[1]) then
  hold = false
end
if hold == 'held' then
  return { 'held' }
end
if hold == 'released' then
  return { 'released' }
end
if hold then
  userId = order[2]
end
local isWholeReturned = part == '' and hold == 'returned'
local isReturned = isWholeReturned or redis.call('SISMEMBER', returnsKey, stockMark) == 1
local givesStock = isStockAsked and not isReturned
local givesLimit = isLimitAsked and redis.call('SISMEMBER', returnsKey, limitMark) == 0
if givesStock then
  for _, item in ipairs(items) do
    local sold = tonumber(redis.call('HGET', stockKey, item.sku .. ':sold')) or 0
    if sold < item.quantity then
      return { 'not-sold', item.sku }
    end
  end
end

-- Writes.
if givesStock then
  for _, item in ipairs(items) do
    redis.call('HINCRBY', stockKey, item.sku .. ':sold', -item.quantity)
    redis.call('HINCRBY', stockKey, item.sku .. ':available', item.quantity)
  end
  redis.call('SADD', returnsKey, stockMark)
  if hold and part == '' then
    redis.call('HSET', orderKey, 'hold', 'returned')
  end
end
if givesLimit then
  for _, item in ipairs(items) do
    local field = limitField(item.sku, userId)
    if redis.call('HINCRBY', limitsKey, field, -item.quantity) <= 0 then
      redis.call('HDEL', limitsKey, field)
    end
  end
  redis.call('SADD', returnsKey, limitMark)
end
if givesStock or givesLimit then
  for _, item in ipairs(items) do
    redis.call('HINCRBY', stockKey, item.sku .. ':give_backs', 1)
  end
end
return { 'returned' }
