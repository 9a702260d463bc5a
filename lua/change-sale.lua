#!lua flags=allow-oom
--[[
Decide a change of a sale: all of it is made, or nothing. The first time it puts the sale into Redis.

Totals are absolute: what is not held or sold is available, or no longer. Prices never change, no SKU goes, and
one that was called off stays so.
Closed is final, by the clock by which shoppers see it: a change that comes afterwards changes nothing.
Invariant: for every SKU total = available + held + sold.
Idempotent by changeNo and changeId: a repeat gets the same answer, also after a refusal, so that a late one
cannot make what was refused. A number comes again where MySQL has lost commits: never with the same id.
May run at maxmemory: a sale must be paused even then, and its rules are few.

KEYS
  1   sale
  2   stock

ARGV
  1   changeNo    grows with each change of the sale, assigned by MySQL
  2   changeId    random; empty: of a change from before ids
  3   epoch       of a sale that is put into Redis; 0: it is there
  4   rules       JSON object of the fields of the sale's hash; one that is missing has no value any more
  5   untilMs     when the caller's knowledge that the sale was never put into Redis is too old (Unix ms)
  6   seenRunId   of the server by whose clock that is
  7…  sku, unitPrice, limit, total    of all SKUs: minor units, units for each user (empty: no limit), units

Replies
  changed
  stale             changeNo          a newer change was decided, or another one under this number. Nothing was
                                      changed
  below-committed   sku, committed    held + sold exceed a total that is to go down. Nothing else was changed
  closed            closesAt (Unix ms)  the sale has closed. Nothing else was changed
  sale-absent                         Redis has lost the sale, or its data are being made again; or it came too late
                                      to put the sale there, where it may have been sold from and lost since. The
                                      sale is suspended where the stock of a SKU is lost, so that it is made again
]]
local saleKey, stockKey = KEYS[1], KEYS[2]
local changeNo, changeId, epoch = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local rules, untilMs, seenRunId = ARGV[4], tonumber(ARGV[5]), ARGV[6]
local firstRepeated = 7
local optional = {
  'limit_per_user', 'max_unpaid', 'address_purchases', 'ticket', 'verification', 'reference', 'metadata',
}

-- include shared/clock.lua
-- include shared/server.lua
-- include shared/integer.lua

local sale = redis.call('HMGET', saleKey,
  'epoch', 'rebuilding', 'suspended', 'run_id', 'change_no', 'refused_sku', 'refused_committed', 'closes_at',
  'refused_closed', 'change_id')
local isNew = not sale[1]
local runId = serverRunId()
if sale[2] or sale[3] or (isNew and epoch == 0) or (sale[4] and sale[4] ~= runId) then
  return { 'sale-absent' }
end
local now = nowMs()
if isNew and (runId ~= seenRunId or now > untilMs) then
  return { 'sale-absent' }
end
-- A sale from before this field has had no change.
local decided = tonumber(sale[5] or (isNew and '0' or '1'))
local isOther = sale[10] and sale[10] ~= changeId
if decided > changeNo or (decided == changeNo and isOther) then
  return { 'stale', integer(decided) }
end
if decided == changeNo and sale[6] then
  return { 'below-committed', sale[6], sale[7] }
end
if decided == changeNo and sale[9] then
  return { 'closed', sale[9] }
end
if decided == changeNo then
  return { 'changed' }
end

-- Only a SKU that this change adds has no price yet. In the place of lost stock, full stock would be sold twice.
local function isLost(sku, stock)
  local isWhole = stock[1] and stock[2] and stock[3] and stock[4]
  return not isNew and not isWhole and redis.call('HEXISTS', saleKey, 'price:' .. sku) == 1
end

local items, refused, hasLost = {}, nil, false
for i = firstRepeated, #ARGV, 4 do
  local sku, unitPrice, limit, total = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local stock = redis.call('HMGET', stockKey, sku .. ':total', sku .. ':held', sku .. ':sold', sku .. ':available')
  hasLost = hasLost or isLost(sku, stock)
  local before, held, sold = tonumber(stock[1] or '0'), tonumber(stock[2] or '0'), tonumber(stock[3] or '0')
  if not refused and total < before and held + sold > total then
    refused = { sku = sku, committed = integer(held + sold) }
  end
  items[#items + 1] = { sku = sku, unitPrice = unitPrice, limit = limit, total = total, held = held, sold = sold }
end
local fields = cjson.decode(rules)
local isClosed = not isNew and now >= (tonumber(sale[8]) or math.huge)

-- Writes.
if hasLost then
  redis.call('HSET', saleKey, 'suspended', '1')
  return { 'sale-absent' }
end
redis.call('HSET', saleKey, 'change_no', integer(changeNo), 'change_id', changeId)
redis.call('HDEL', saleKey, 'refused_sku', 'refused_committed', 'refused_closed')
if isClosed then
  redis.call('HSET', saleKey, 'refused_closed', sale[8])
  return { 'closed', sale[8] }
end
if refused then
  redis.call('HSET', saleKey, 'refused_sku', refused.sku, 'refused_committed', refused.committed)
  return { 'below-committed', refused.sku, refused.committed }
end
redis.call('HDEL', saleKey, unpack(optional))
if isNew then
  redis.call('HSET', saleKey, 'epoch', integer(epoch), 'run_id', runId)
end
for field, value in pairs(fields) do
  redis.call('HSET', saleKey, field, value)
end
for _, item in ipairs(items) do
  local sku = item.sku
  redis.call('HSETNX', saleKey, 'price:' .. sku, item.unitPrice)
  if item.limit == '' then
    redis.call('HDEL', saleKey, 'limit:' .. sku)
  else
    redis.call('HSET', saleKey, 'limit:' .. sku, item.limit)
  end
  redis.call('HSET', stockKey,
    sku .. ':total', integer(item.total), sku .. ':available', integer(item.total - item.held - item.sold),
    sku .. ':held', integer(item.held), sku .. ':sold', integer(item.sold))
end
return { 'changed' }
