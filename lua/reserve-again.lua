#!lua
--[[
Reserve again for an order that was accepted and lost, and hand it to the outbox, in one atomic step.

For money that came for an order which no store knows any more, and for an order that was not stored before
the sale's data were made again under a new epoch. The order was accepted once, at its prices and in its time:
so prices, total, time and payment window stay as given, and neither pause nor window nor limit nor ticket nor
backlog refuses it. The units that it takes count against its user's limit, as those of any order, and the
ticket that it spent is spent again. Only stock that is gone stands in the way.
An order that Redis does not have is answered as lost some time after its sale's data were made again. A process that
was frozen may come with one after that, so its call is refused by the time at which this very server ended the
rebuild. An order that is in Redis was never answered as lost.
A state of MySQL that was shown stays until a greater version comes, though MySQL may have lost it. So does a wish to
cancel the order that MySQL has not.
Invariant: total = available + held + sold.
Idempotent by orderNo within an epoch: an order restored so long ago that its hash has expired is known by its
entry in `restored`, which never expires; a rebuild empties it. A hold of an older epoch than the sale's is
void, and the order gets a new one.

KEYS
  1   sale
  2   stock
  3   limits
  4   order
  5   idem
  6   outbox
  7   deadlines
  8   restored
  9   ticket               of a ticket of single use: the order that spent it
  10  moves
  11  open

ARGV
  1   orderNo
  2   epoch                of the orderNo, for a hold that does not say its own
  3   saleId
  4   userId
  5   idempotencyKey
  6   fingerprint          digest of the request
  7   idempotencyTtlMs     life of the idempotency entry (ms)
  8   items                JSON list of sku, quantity (units), unitPrice (minor units); each SKU once
  9   total                minor units
  10  currency
  11  reservedAtMs         when the order was accepted (Unix ms)
  12  paymentWindowMs      ms
  13  carried              what no script reads of the order (JSON)
  14  ticketEndsAtMs       until when the order's ticket is to be known as spent (Unix ms); 0: it spent none
  15  lostEpoch            of the hold that was lost
  16  lateAfterMs          how long after the rebuild an order may come back that Redis lacks (ms); empty: always

Replies
  reserved      epoch      of the new hold
  known         hold, epoch
                           the order is there, in this state; `absent`: it was restored before, ended and
                           expired. Nothing was changed
  sale-absent              Redis does not know the sale, or its data are about to be made again
  too-late                 it may have been answered as lost. Nothing was changed
  unknown-sku   sku
  sold-out      sku
]]
local saleKey, stockKey, limitsKey, orderKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local idemKey, outboxKey, deadlinesKey, restoredKey = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local ticketKey, movesKey, openKey = KEYS[9], KEYS[10], KEYS[11]
local orderNo, epoch, saleId, userId, idempotencyKey = ARGV[1], tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local fingerprint, idempotencyTtlMs, items = ARGV[6], tonumber(ARGV[7]), cjson.decode(ARGV[8])
local total, currency, reservedAtMs, paymentWindowMs = ARGV[9], ARGV[10], tonumber(ARGV[11]), tonumber(ARGV[12])
local carried, ticketEndsAtMs = ARGV[13], tonumber(ARGV[14])
local lostEpoch, lateAfterMs = tonumber(ARGV[15]), tonumber(ARGV[16])

-- include shared/clock.lua
-- include shared/server.lua
-- include shared/limit-field.lua
-- include shared/integer.lua
-- include shared/write-order.lua
-- include shared/add-open-order.lua
-- include shared/key-type.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'suspended', 'rebuilt_at', 'undecided_from')
if not sale[1] or sale[3] or not isOfServer(sale[2]) then
  return { 'sale-absent' }
end
local order = redis.call('HMGET', orderKey, 'hold', 'epoch', 'wish')
local holdEpoch = tonumber(order[2]) or epoch
if holdEpoch > tonumber(sale[1]) then
  return { 'sale-absent' }
end
local isVoid = holdEpoch < tonumber(sale[1])
-- An order that has ended stays ended, whatever its epoch.
if order[1] and not (isVoid and order[1] == 'held') then
  return { 'known', order[1], sale[1] }
end
if not order[1] and lateAfterMs then
  local isTold = lostEpoch < (tonumber(sale[5]) or 0)
  if isTold or nowMs() > (tonumber(sale[4]) or 0) + lateAfterMs then
    return { 'too-late' }
  end
end
if redis.call('SISMEMBER', restoredKey, orderNo) == 1 then
  return { 'known', 'absent', sale[1] }
end
for _, item in ipairs(items) do
  local available = tonumber(redis.call('HGET', stockKey, item.sku .. ':available'))
  if not available then
    return { 'unknown-sku', item.sku }
  end
  if available < item.quantity then
    return { 'sold-out', item.sku }
  end
end
local shown = redis.call('HMGET', orderKey, 'status', 'version', 'payment', 'reason', 'refunded', 'extended_until')
-- A projection that lacks a field is none.
local isShown = shown[1] and (tonumber(shown[2]) or 0) > 0 and shown[3] and shown[4]
-- The shopper may have repeated the request since, and got another order for it.
local isKeyDamaged, isTicketDamaged = isDamaged(idemKey, 'hash'), isDamaged(ticketKey, 'hash')
local isKeyFree = isKeyDamaged or redis.call('EXISTS', idemKey) == 0

-- Writes.
if isKeyDamaged then
  redis.call('UNLINK', idemKey)
end
if isTicketDamaged then
  redis.call('UNLINK', ticketKey)
end
for _, item in ipairs(items) do
  redis.call('HINCRBY', stockKey, item.sku .. ':available', -item.quantity)
  redis.call('HINCRBY', stockKey, item.sku .. ':held', item.quantity)
  redis.call('HINCRBY', limitsKey, limitField(item.sku, userId), item.quantity)
end
-- The void hold may be about to expire.
redis.call('DEL', orderKey)
local entry = redis.call('XADD', outboxKey, '*', 'order_no', orderNo)
writeOrder(orderKey, {
  saleId = saleId, userId = userId, items = ARGV[8], total = total, currency = currency,
  idempotencyKey = idempotencyKey, reservedAt = integer(reservedAtMs), paymentWindow = integer(paymentWindowMs),
  carried = carried, epoch = sale[1],
}, 'entry', entry, 'status', 'queued', 'version', '0', 'payment', 'none', 'reason', '')
if order[3] then
  redis.call('HSET', orderKey, 'wish', order[3])
end
if isShown then
  redis.call('HSET', orderKey,
    'status', shown[1], 'version', shown[2], 'payment', shown[3], 'reason', shown[4])
  if shown[5] then
    redis.call('HSET', orderKey, 'refunded', shown[5])
  end
  if shown[6] then
    redis.call('HSET', orderKey, 'extended_until', shown[6])
  end
end
local extended = isShown and tonumber(shown[6])
-- Where another order has spent the ticket since, it stays that one's. An end in the past removes the key.
if ticketEndsAtMs > 0 and redis.call('HSETNX', ticketKey, 'order_no', orderNo) == 1 then
  redis.call('PEXPIREAT', ticketKey, integer(ticketEndsAtMs))
end
if isKeyFree then
  redis.call('HSET', idemKey, 'order_no', orderNo, 'fingerprint', fingerprint)
  redis.call('PEXPIRE', idemKey, idempotencyTtlMs)
end
redis.call('ZADD', deadlinesKey, integer(extended or reservedAtMs + paymentWindowMs), orderNo)
-- For a look that goes on (`look-sale`), and there only: its time is that of the first reservation.
redis.pcall('RPUSHX', movesKey, '+' .. orderNo)
redis.call('SADD', restoredKey, orderNo)
addOpenOrders(openKey, { { userId = userId, orderNo = orderNo } })
return { 'reserved', sale[1] }
