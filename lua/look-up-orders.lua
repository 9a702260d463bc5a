#!lua flags=no-writes
--[[
Read orders of a sale, and whether Redis can be believed about them.

After a restart from an old file, or a failover, a projection may be older than what was answered before. So it
is believed only while the sale's data are those that this server was given, and while the hold is of their
epoch; otherwise MySQL knows better.
The fields come as one JSON text, because that costs a process a fraction of a reply for each field. The relay
reads hundreds of orders at once. A user's list of open orders is a field of a hash as well, and is read alike.
Changes nothing.

KEYS
  1   sale
  2…  order

ARGV
  1…  field       of the hash of an order, one each

Replies
  certain     epoch, orders   of the sale, and of each order the list of its values, as a JSON list of lists;
                              false for a field that is absent, and for an order that is no hash. Orders of
                              another epoch are doubtful
  doubtful    orders          the same, as they were at some time before
]]
local saleKey = KEYS[1]
local firstRepeated = 1

-- include shared/server.lua

local fields = {}
for i = firstRepeated, #ARGV do
  local field = ARGV[i]
  fields[#fields + 1] = field
end
local orders = {}
for i, orderKey in ipairs(KEYS) do
  if i > 1 then
    local order = redis.pcall('HMGET', orderKey, unpack(fields))
    orders[i - 1] = not order.err and order
  end
end
local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding')
if sale[1] and not sale[3] and isOfServer(sale[2]) then
  return { 'certain', sale[1], cjson.encode(orders) }
end
return { 'doubtful', cjson.encode(orders) }
