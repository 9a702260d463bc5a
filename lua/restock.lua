#!lua
--[[
Set a SKU's total to an absolute, versioned number; the difference goes to or comes from the available units.

The number is absolute and versioned, so that a repeat or a late, older change does nothing.
Invariant: total = available + held + sold.

KEYS
  1   sale
  2   stock

ARGV
  1   sku
  2   total       units
  3   version     grows with each change of this SKU's total, assigned by MySQL

Replies
  restocked         total, available
  stale             version            this or a newer version was applied before
  below-committed   committed          held + sold exceed the new total: nothing was changed
  unknown-sku
  sale-absent                          only warm-up and rebuild create stock; a rebuild reads the new total
]]
local saleKey, stockKey = KEYS[1], KEYS[2]
local sku, total, version = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

local sale = redis.call('HMGET', saleKey, 'epoch', 'rebuilding')
if not sale[1] or sale[2] then
  return { 'sale-absent' }
end
local stock = redis.call('HMGET', stockKey, sku .. ':total', sku .. ':held', sku .. ':sold', sku .. ':version')
if not stock[1] then
  return { 'unknown-sku' }
end
if tonumber(stock[4]) >= version then
  return { 'stale', stock[4] }
end
local committed = tonumber(stock[2]) + tonumber(stock[3])
if committed > total then
  return { 'below-committed', string.format('%.0f', committed) }
end

-- Writes.
local available = string.format('%.0f', total - committed)
redis.call('HSET', stockKey, sku .. ':total', ARGV[2], sku .. ':available', available, sku .. ':version', ARGV[3])
return { 'restocked', ARGV[2], available }
