#!lua flags=no-writes
--[[
Look at a sale's stock, its held orders and some users' limits at one moment.

A comparison of the stores needs all of them as of one moment. What it reads of the held orders afterwards does
not change any more.
Changes nothing.

KEYS
  1   sale
  2   stock
  3   limits
  4   deadlines

ARGV
  1   heldMax     held orders at most (orders)
  2…  field       of the limits, one each

Replies
  looked        now (Unix ms), epoch, changeNo (of the last change that was decided), mends, JSON lists: stock
                (field and value in turn), held orders, and the values of the given limits (0 where there is none)
  not-at-rest   the sale's data are missing or being made again, or are another server's
  too-many      held      more orders are held than may be listed
]]
local saleKey, stockKey, limitsKey, deadlinesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local heldMax = tonumber(ARGV[1])
local firstRepeated = 2

-- include shared/server.lua
-- include shared/integer.lua
-- include shared/clock.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding', 'mends', 'change_no')
if not sale[1] or sale[3] or not isOfServer(sale[2]) then
  return { 'not-at-rest' }
end
local held = redis.call('ZCARD', deadlinesKey)
if held > heldMax then
  return { 'too-many', integer(held) }
end
local now = nowMs()
local limits = {}
for i = firstRepeated, #ARGV do
  local field = ARGV[i]
  limits[#limits + 1] = redis.call('HGET', limitsKey, field) or '0'
end
local stock = cjson.encode(redis.call('HGETALL', stockKey))
local heldOrders = cjson.encode(redis.call('ZRANGE', deadlinesKey, 0, -1))
local when = integer(now)
-- A sale from before `change_no` has had no change.
local changeNo = sale[5] or '1'
return { 'looked', when, sale[1], changeNo, sale[4] or '0', stock, heldOrders, cjson.encode(limits) }
