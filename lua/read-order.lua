#!lua flags=no-writes
--[[
Read an order, and whether Redis can be believed about it.

After a restart from an old file, or a failover, a projection may be older than what was answered before. So it
is believed only while the sale's data are those that this server was given, and while the hold is of their
epoch; otherwise MySQL knows better.
The hash comes as one JSON text, because that costs the API's process a fraction of a reply for each field.
Changes nothing.

KEYS
  1   sale
  2   order

ARGV
  1   epoch       of the orderNo, for a hold that does not say its own

Replies
  certain     hash    the order's hash, as a JSON object; empty: Redis does not have the order
  doubtful    hash    the same, as it was at some time before
]]
local saleKey, orderKey = KEYS[1], KEYS[2]
local epoch = tonumber(ARGV[1])

local function serverRunId()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding')
local pairsOf = redis.call('HGETALL', orderKey)
local hash = {}
for i = 1, #pairsOf, 2 do
  hash[pairsOf[i]] = pairsOf[i + 1]
end
local holdEpoch = tonumber(hash.epoch) or epoch
-- A sale from before `run_id` is trusted.
local isOfServer = sale[1] and not sale[3] and (not sale[2] or sale[2] == serverRunId())
if isOfServer and holdEpoch == tonumber(sale[1]) then
  return { 'certain', cjson.encode(hash) }
end
return { 'doubtful', cjson.encode(hash) }
