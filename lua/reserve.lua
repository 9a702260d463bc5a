#!lua
--[[
Reserve stock for orders of one sale and hand them to the outbox, in one atomic step.

The orders are purchases that a process was asked for at once. Each is answered as if it came alone, after
those before it in the call: the unit, the allowance, the key or the ticket that one takes is gone for the
next, and a refusal of one is no refusal of another. What is the same for all is asked once, when the first
needs it: the sale, its server, the stock of a SKU, the backlog.
Invariant: for every SKU total = available + held + sold, before and after. Either everything below "writes"
happens or nothing does: all reads and refusals of all orders come first, because Redis does not roll back.
Idempotent by orderNo: a resend after a reconnect finds its own idempotency entry and returns `reserved`
again.
The server's own run id is compared with that of the sale's data: after a restart, a restore or a failover
nothing is sold until the rebuild has made the data again.

KEYS
  1   sale
  2   stock
  3   limits
  4   outbox
  5   deadlines
  6   open
  7   unpaid
  8…  order                of each order, with the two that follow
  9…  idem
  10…  ticket              of a ticket of single use: the order that spent it

ARGV
  1   saleId
  2   idempotencyTtlMs     life of an idempotency entry (ms)
  3   storesPerSecond      orders that MySQL stores per second
  4   waitingElsewhere     orders in the outboxes of all other sales
  5   outboxesElsewhere    those of other sales that are not empty
  6…  orderNo              of each order, with all that follow
  7…  epoch                the epoch that the orderNo was made for
  8…  userId
  9…  idempotencyKey
  10…  fingerprint         digest of the request
  11…  items               JSON list of sku, quantity (units): the cart; each SKU once
  12…  carried             what no script reads of the order (JSON)
  13…  chargesTotal        sum of the charges (minor units), which may be negative
  14…  expectedTotal       the total that the shopper saw (minor units); empty: none is expected
  15…  ticketEndsAtMs      from when on the request's ticket is refused (Unix ms); 0: it has no ticket
  16…  isSingleUse         1: the ticket is spent by this order; 2: so is one that was worked for; 0: it is not

Replies, one an order
  reserved        orderNo, total (minor units), currency, reservedAt (Unix ms), paymentWindow (ms),
                  items (JSON list of sku, quantity, unitPrice)
  repeated        orderNo            the same key and the same request were accepted before
  key-reused      orderNo            the same key came with another request
  sale-absent                        Redis does not know the sale: closed, never sold out
  paused                             by the shop, or until the sale's data are made again
  epoch-changed   epoch              the orderNo belongs to another life of the sale's data: make a new one
  not-open-yet    opensAt (Unix ms)
  closed          closesAt (Unix ms)
  unknown-sku     sku
  called-off      sku                the shop has called this SKU off, for good
  ticket-required                    the sale takes orders with a ticket only, or with one of the shop only
  ticket-expired
  ticket-used     orderNo            that spent it
  too-many-unpaid  limit, unpaid     holds of the user ended without payment
  sold-out        sku, available, held, openOrders
                                     of the user: their numbers, with a space between; 20 at most are kept
  limit-reached   sku, limit, bought, openOrders
  sale-limit-reached  limit, bought, openOrders  of all SKUs together
  total-too-low   total (minor units)  the charges bring it below 0
  total-changed   total (minor units), currency
                                     another total than the expected one
  backlog-full    waiting, bound     more orders wait in the outboxes of all sales than MySQL stores within a
                                     third of the window, and in this one is its equal part of them or more
  memory-full     used, bound (bytes)
                                     the rest of maxmemory is for the orders that were accepted
]]
local saleKey, stockKey, limitsKey = KEYS[1], KEYS[2], KEYS[3]
local outboxKey, deadlinesKey = KEYS[4], KEYS[5]
local openKey, unpaidKey = KEYS[6], KEYS[7]
local saleId, idempotencyTtlMs = ARGV[1], ARGV[2]
local storesPerSecond = tonumber(ARGV[3])
local waitingElsewhere, outboxesElsewhere = tonumber(ARGV[4]), tonumber(ARGV[5])
local firstRepeated = 6
-- Of maxmemory. Being read, shown and ended takes an accepted order less than a tenth of what it has already.
local keptFree = 0.1

-- include shared/server.lua
-- include shared/limit-field.lua
-- include shared/integer.lua
-- include shared/write-order.lua
-- include shared/clock.lua
-- include shared/add-open-order.lua

-- What was read for one order and serves the next. The counts follow the orders that are accepted.
local sale, isTrusted, opensAt, closesAt, paymentWindow, currency, now
local skus, bought, boughtInSale = {}, {}, {}
local waiting, bound, part, used, usable
-- Orders of this call that are accepted: in turn, by the key of their request, by the ticket that they spent.
local accepted, acceptedByRequest, spentBy = {}, {}, {}

local function readSale()
  sale = redis.call('HMGET', saleKey,
    'epoch', 'opens_at', 'closes_at', 'paused', 'payment_window', 'currency', 'suspended', 'run_id',
    'ticket', 'limit_per_user', 'max_unpaid', 'verification')
  isTrusted = sale[1] and not sale[7] and isOfServer(sale[8])
  opensAt, closesAt = tonumber(sale[2]), tonumber(sale[3])
  paymentWindow, currency = tonumber(sale[5]), sale[6]
  now = nowMs()
end

local function readSku(code)
  local rules = redis.call('HMGET', saleKey, 'price:' .. code, 'limit:' .. code, 'off:' .. code)
  local available = tonumber(redis.call('HGET', stockKey, code .. ':available'))
  skus[code] = {
    isKnown = rules[1] and available,
    isCalledOff = rules[3],
    unitPrice = tonumber(rules[1]),
    limit = tonumber(rules[2]),
    limitPrefix = limitField(code, ''),
    available = available,
    taken = 0,
  }
  return skus[code]
end

local function boughtOf(field)
  if not bought[field] then
    bought[field] = tonumber(redis.call('HGET', limitsKey, field)) or 0
  end
  return bought[field]
end

-- Counted anew from the counts of each SKU, so that no second count can differ from them.
local limitPrefixes
local function boughtOfAllSkus(userId)
  if boughtInSale[userId] then
    return boughtInSale[userId]
  end
  if not limitPrefixes then
    limitPrefixes = {}
    for code in string.gmatch(redis.call('HGET', saleKey, 'sku_codes'), '[^\n]+') do
      limitPrefixes[#limitPrefixes + 1] = limitField(code, '')
    end
  end
  local fields, units = {}, 0
  for i, prefix in ipairs(limitPrefixes) do
    fields[i] = prefix .. userId
  end
  for _, count in ipairs(redis.call('HMGET', limitsKey, unpack(fields))) do
    units = units + (tonumber(count) or 0)
  end
  boughtInSale[userId] = units
  return units
end

-- Where it refuses only: an order that is accepted pays for no look.
local function heldOf(code)
  local sku = skus[code]
  sku.held = sku.held or tonumber(redis.call('HGET', stockKey, code .. ':held')) or 0
  return sku.held + sku.taken
end

-- As `heldOf`. Those of this call come last, as they would in the list.
local function openOrdersOf(userId)
  local found = redis.pcall('HGET', openKey, userId)
  local orderNos = { type(found) == 'string' and found or nil }
  for _, order in ipairs(accepted) do
    if order.userId == userId then
      orderNos[#orderNos + 1] = order.orderNo
    end
  end
  return table.concat(orderNos, ' ')
end

-- Sales whose outboxes are not empty share the bound: each may fill its part, whatever the others have. A
-- sale keeps what it has when others come, so of n sales at most bound * (1 + 1/2 + ... + 1/n) orders wait.
local function readBacklog()
  waiting = redis.call('XLEN', outboxKey)
  bound = math.floor(storesPerSecond * paymentWindow / 3000)
  part = bound / (outboxesElsewhere + 1)
  -- Else only written: a key of another type must fail before the first write, not after it.
  redis.call('HLEN', limitsKey)
  redis.call('ZCARD', deadlinesKey)
end

-- What Redis itself compares with maxmemory. Without a maxmemory there is no bound.
local function readMemory()
  local info = redis.call('INFO', 'memory')
  local function bytes(name)
    -- Found plainly: to look for a pattern in a text this long costs as much as INFO itself.
    local _, last = string.find(info, name, 1, true)
    return tonumber(last and string.match(info, '^%d+', last + 1)) or 0
  end
  local maxmemory = bytes('maxmemory:')
  used = bytes('used_memory:') - bytes('mem_not_counted_for_evict:')
  usable = maxmemory > 0 and math.floor(maxmemory * (1 - keptFree)) or math.huge
end

local function reserved(orderNo, total, ofCurrency, reservedAt, window, itemsJson)
  return { 'reserved', orderNo, total, ofCurrency, reservedAt, window, itemsJson }
end

local function accept(order, items, total, units)
  local userId = order.userId
  for _, item in ipairs(items) do
    local sku = skus[item.sku]
    sku.available, sku.taken = sku.available - item.quantity, sku.taken + item.quantity
    local field = sku.limitPrefix .. userId
    if bought[field] then
      bought[field] = bought[field] + item.quantity
    end
  end
  if boughtInSale[userId] then
    boughtInSale[userId] = boughtInSale[userId] + units
  end
  if order.isSingleUse then
    spentBy[order.ticketKey] = order.orderNo
  end
  waiting = waiting + 1
  order.lines, order.total, order.itemsJson = items, integer(total), cjson.encode(items)
  order.reply =
    reserved(order.orderNo, order.total, currency, integer(now), integer(paymentWindow), order.itemsJson)
  acceptedByRequest[order.idemKey] = order
  accepted[#accepted + 1] = order
  return order.reply
end

local function decide(order)
  local orderNo, userId = order.orderNo, order.userId
  local first = acceptedByRequest[order.idemKey]
  local earlier = first and { first.orderNo, first.fingerprint }
    or redis.call('HMGET', order.idemKey, 'order_no', 'fingerprint')
  if earlier[1] == orderNo then
    if first then
      return first.reply
    end
    local hold =
      redis.call('HMGET', order.orderKey, 'total', 'currency', 'reserved_at', 'payment_window', 'items')
    return reserved(orderNo, hold[1], hold[2], hold[3], hold[4], hold[5])
  elseif earlier[1] then
    return { earlier[2] == order.fingerprint and 'repeated' or 'key-reused', earlier[1] }
  end

  if not sale then
    readSale()
  end
  if not sale[1] then
    return { 'sale-absent' }
  end
  if not isTrusted then
    return { 'paused' }
  end
  if sale[1] ~= order.epoch then
    return { 'epoch-changed', sale[1] }
  end
  if sale[4] == '1' then
    return { 'paused' }
  end
  if now < opensAt then
    return { 'not-open-yet', sale[2] }
  end
  if now >= closesAt then
    return { 'closed', sale[3] }
  end
  if order.ticketEndsAtMs == 0 then
    if sale[9] == '1' or sale[12] then
      return { 'ticket-required' }
    end
  elseif order.isOfWork and sale[9] == '1' then
    return { 'ticket-required' }
  elseif now >= order.ticketEndsAtMs then
    -- The same moment at which a spent ticket is forgotten, by the same clock.
    return { 'ticket-expired' }
  elseif order.isSingleUse then
    local spender = spentBy[order.ticketKey] or redis.call('HGET', order.ticketKey, 'order_no')
    if spender then
      return { 'ticket-used', spender }
    end
  end

  if sale[11] then
    local limit, unpaid = tonumber(sale[11]), tonumber(redis.call('HGET', unpaidKey, userId)) or 0
    if unpaid >= limit then
      return { 'too-many-unpaid', integer(limit), integer(unpaid) }
    end
  end

  local items, total, units = {}, order.chargesTotal, 0
  for i, line in ipairs(cjson.decode(order.items)) do
    local code, quantity = line.sku, line.quantity
    local sku = skus[code] or readSku(code)
    if not sku.isKnown then
      return { 'unknown-sku', code }
    end
    if sku.isCalledOff then
      return { 'called-off', code }
    end
    if sku.available < quantity then
      return { 'sold-out', code, integer(sku.available), integer(heldOf(code)), openOrdersOf(userId) }
    end
    if sku.limit then
      local count = boughtOf(sku.limitPrefix .. userId)
      if count + quantity > sku.limit then
        return { 'limit-reached', code, integer(sku.limit), integer(count), openOrdersOf(userId) }
      end
    end
    total = total + sku.unitPrice * quantity
    units = units + quantity
    items[i] = { sku = code, quantity = quantity, unitPrice = sku.unitPrice }
  end
  if sale[10] then
    local limit, count = tonumber(sale[10]), boughtOfAllSkus(userId)
    if count + units > limit then
      return { 'sale-limit-reached', integer(limit), integer(count), openOrdersOf(userId) }
    end
  end
  if total < 0 then
    return { 'total-too-low', integer(total) }
  end
  if order.expectedTotal and order.expectedTotal ~= total then
    return { 'total-changed', integer(total), currency }
  end

  if not waiting then
    readBacklog()
    readMemory()
  end
  if waiting + waitingElsewhere >= bound and waiting >= part then
    return { 'backlog-full', integer(waiting + waitingElsewhere), integer(bound) }
  end
  if used > usable then
    return { 'memory-full', integer(used), integer(usable) }
  end
  return accept(order, items, total, units)
end

local orders, replies = {}, {}
for i = firstRepeated, #ARGV, 11 do
  local k = 8 + 3 * #orders
  local orderKey, idemKey, ticketKey = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  local orderNo, epoch, userId, idempotencyKey = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local fingerprint, items, carried = ARGV[i + 4], ARGV[i + 5], ARGV[i + 6]
  local chargesTotal, expectedTotal = tonumber(ARGV[i + 7]), tonumber(ARGV[i + 8])
  local ticketEndsAtMs, isSingleUse = tonumber(ARGV[i + 9]), ARGV[i + 10]
  local order = {
    orderKey = orderKey, idemKey = idemKey, ticketKey = ticketKey,
    orderNo = orderNo, epoch = epoch, userId = userId, idempotencyKey = idempotencyKey,
    fingerprint = fingerprint, items = items, carried = carried,
    chargesTotal = chargesTotal, expectedTotal = expectedTotal,
    ticketEndsAtMs = ticketEndsAtMs, isSingleUse = isSingleUse ~= '0', isOfWork = isSingleUse == '2',
  }
  orders[#orders + 1] = order
  replies[#replies + 1] = decide(order)
end
if #accepted == 0 then
  return replies
end

-- Writes.
for code, sku in pairs(skus) do
  if sku.taken > 0 then
    redis.call('HINCRBY', stockKey, code .. ':available', -sku.taken)
    redis.call('HINCRBY', stockKey, code .. ':held', sku.taken)
  end
end
local deadline, deadlines = integer(now + paymentWindow), {}
for _, order in ipairs(accepted) do
  local orderNo = order.orderNo
  for _, item in ipairs(order.lines) do
    redis.call('HINCRBY', limitsKey, skus[item.sku].limitPrefix .. order.userId, item.quantity)
  end
  local entry = redis.call('XADD', outboxKey, '*', 'order_no', orderNo)
  writeOrder(order.orderKey, {
    saleId = saleId, userId = order.userId, items = order.itemsJson, total = order.total, currency = currency,
    idempotencyKey = order.idempotencyKey, reservedAt = integer(now), paymentWindow = integer(paymentWindow),
    carried = order.carried, epoch = order.epoch,
  }, 'entry', entry, 'status', 'queued', 'version', '0', 'payment', 'none', 'reason', '')
  if order.isSingleUse then
    redis.call('HSET', order.ticketKey, 'order_no', orderNo)
    redis.call('PEXPIREAT', order.ticketKey, integer(order.ticketEndsAtMs))
  end
  redis.call('HSET', order.idemKey, 'order_no', orderNo, 'fingerprint', order.fingerprint)
  redis.call('PEXPIRE', order.idemKey, idempotencyTtlMs)
  deadlines[#deadlines + 1] = deadline
  deadlines[#deadlines + 1] = orderNo
end
redis.call('ZADD', deadlinesKey, unpack(deadlines))
addOpenOrders(openKey, accepted)
return replies
