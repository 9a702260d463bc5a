#!lua
--[[
What `lua/reserve.lua` answers and writes, for one order by itself: the oracle of its property test.

KEYS  sale, stock, limits, order, idem, outbox, deadlines, ticket, open, unpaid
ARGV  orderNo, epoch, saleId, userId, idempotencyKey, fingerprint, idempotencyTtlMs, storesPerSecond, waitingElsewhere,
      carried, chargesTotal, expectedTotal, ticketEndsAtMs, isSingleUse; then sku, quantity, a pair a line
]]
local saleKey, stockKey, limitsKey, orderKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local idemKey, outboxKey, deadlinesKey, ticketKey = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local openKey, unpaidKey = KEYS[9], KEYS[10]
local orderNo, epoch, saleId, userId = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local idempotencyKey, fingerprint, idempotencyTtlMs = ARGV[5], ARGV[6], tonumber(ARGV[7])
local storesPerSecond, waitingElsewhere = tonumber(ARGV[8]), tonumber(ARGV[9])
local carried, chargesTotal, expectedTotal = ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local ticketEndsAtMs, isSingleUse = tonumber(ARGV[13]), ARGV[14] == '1'
local firstRepeated = 15

-- include shared/server.lua
-- include shared/limit-field.lua
-- include shared/integer.lua
-- include shared/clock.lua

-- Counted anew from the counts of each SKU, so that no second count can differ from them.
local function boughtOfAllSkus()
  local fields = {}
  for sku in string.gmatch(redis.call('HGET', saleKey, 'sku_codes'), '[^\n]+') do
    fields[#fields + 1] = limitField(sku, userId)
  end
  local bought = 0
  for _, count in ipairs(redis.call('HMGET', limitsKey, unpack(fields))) do
    bought = bought + (tonumber(count) or 0)
  end
  return bought
end

local earlier = redis.call('HMGET', idemKey, 'order_no', 'fingerprint')
if earlier[1] == orderNo then
  local order = redis.call('HMGET', orderKey, 'total', 'currency', 'reserved_at', 'payment_window', 'items')
  return { 'reserved', orderNo, order[1], order[2], order[3], order[4], order[5] }
elseif earlier[1] then
  return { earlier[2] == fingerprint and 'repeated' or 'key-reused', earlier[1] }
end

local sale = redis.call('HMGET', saleKey,
  'epoch', 'opens_at', 'closes_at', 'paused', 'payment_window', 'currency', 'suspended', 'run_id',
  'ticket', 'limit_per_user', 'max_unpaid')
if not sale[1] then
  return { 'sale-absent' }
end
if sale[7] or not isOfServer(sale[8]) then
  return { 'paused' }
end
if sale[1] ~= epoch then
  return { 'epoch-changed', sale[1] }
end
local opensAt, closesAt, paymentWindow, currency = tonumber(sale[2]), tonumber(sale[3]), tonumber(sale[5]), sale[6]
if sale[4] == '1' then
  return { 'paused' }
end
local now = nowMs()
if now < opensAt then
  return { 'not-open-yet', sale[2] }
end
if now >= closesAt then
  return { 'closed', sale[3] }
end
if ticketEndsAtMs == 0 then
  if sale[9] == '1' then
    return { 'ticket-required' }
  end
elseif now >= ticketEndsAtMs then
  -- The same moment at which a spent ticket is forgotten, by the same clock.
  return { 'ticket-expired' }
elseif isSingleUse then
  local spentBy = redis.call('HGET', ticketKey, 'order_no')
  if spentBy then
    return { 'ticket-used', spentBy }
  end
end

local unpaid = tonumber(redis.call('HGET', unpaidKey, userId)) or 0
if sale[11] and unpaid >= tonumber(sale[11]) then
  return { 'too-many-unpaid', sale[11], integer(unpaid) }
end

local open = redis.call('HGET', openKey, userId) or ''
local items, total, units = {}, chargesTotal, 0
for i = firstRepeated, #ARGV, 2 do
  local sku, quantity = ARGV[i], tonumber(ARGV[i + 1])
  local rules = redis.call('HMGET', saleKey, 'price:' .. sku, 'limit:' .. sku)
  local available = tonumber(redis.call('HGET', stockKey, sku .. ':available'))
  if not rules[1] or not available then
    return { 'unknown-sku', sku }
  end
  if available < quantity then
    return { 'sold-out', sku, integer(available), redis.call('HGET', stockKey, sku .. ':held'), open }
  end
  local limit = tonumber(rules[2])
  if limit then
    local bought = tonumber(redis.call('HGET', limitsKey, limitField(sku, userId))) or 0
    if bought + quantity > limit then
      return { 'limit-reached', sku, integer(limit), integer(bought), open }
    end
  end
  local unitPrice = tonumber(rules[1])
  total = total + unitPrice * quantity
  units = units + quantity
  items[#items + 1] = { sku = sku, quantity = quantity, unitPrice = unitPrice }
end

if sale[10] then
  local limit, bought = tonumber(sale[10]), boughtOfAllSkus()
  if bought + units > limit then
    return { 'sale-limit-reached', integer(limit), integer(bought), open }
  end
end
if total < 0 then
  return { 'total-too-low', integer(total) }
end
if expectedTotal and expectedTotal ~= total then
  return { 'total-changed', integer(total), currency }
end

local waiting = redis.call('XLEN', outboxKey) + waitingElsewhere
local bound = math.floor(storesPerSecond * paymentWindow / 3000)
if waiting >= bound then
  return { 'backlog-full', integer(waiting), integer(bound) }
end

local itemsJson = cjson.encode(items)

-- Writes.
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':available', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':held', item.quantity)
  redis.call('HINCRBY', limitsKey, limitField(item.sku, userId), item.quantity)
end
redis.call('HSET', openKey, userId, open == '' and orderNo or open .. ' ' .. orderNo)
local entry = redis.call('XADD', outboxKey, '*', 'order_no', orderNo)
redis.call('HSET', orderKey,
  'sale_id', saleId, 'user_id', userId, 'items', itemsJson, 'total', integer(total), 'currency', currency,
  'idempotency_key', idempotencyKey, 'reserved_at', integer(now), 'payment_window', integer(paymentWindow),
  'carried', carried, 'entry', entry,
  'epoch', epoch, 'hold', 'held', 'status', 'queued', 'version', '0', 'payment', 'none', 'reason', '')
if isSingleUse then
  redis.call('HSET', ticketKey, 'order_no', orderNo)
  redis.call('PEXPIREAT', ticketKey, integer(ticketEndsAtMs))
end
redis.call('HSET', idemKey, 'order_no', orderNo, 'fingerprint', fingerprint)
redis.call('PEXPIRE', idemKey, idempotencyTtlMs)
redis.call('ZADD', deadlinesKey, integer(now + paymentWindow), orderNo)
return { 'reserved', orderNo, integer(total), currency, integer(now), integer(paymentWindow), itemsJson }
