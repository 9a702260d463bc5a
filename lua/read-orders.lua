#!lua flags=no-writes
--[[
Read many orders, with their projections, in one reply.

A relay reads hundreds of orders at once, and one JSON text costs its process a fraction of what each field
costs as a reply of its own.
Changes nothing.

KEYS
  1…  order

ARGV
  1…  field       of the hash of an order, one each

Replies
  orders      a JSON list that has for each order the list of its values; false where a field is absent
]]
local firstRepeated = 1

local fields = {}
for i = firstRepeated, #ARGV do
  local field = ARGV[i]
  fields[#fields + 1] = field
end
local orders = {}
for i, orderKey in ipairs(KEYS) do
  orders[i] = redis.call('HMGET', orderKey, unpack(fields))
end
return { 'orders', cjson.encode(orders) }
