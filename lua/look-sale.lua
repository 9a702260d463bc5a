#!lua flags=allow-oom
--[[
Look at a sale's stock and some users' limits at one moment, and have it noted from then on which holds end.

A comparison of the stores needs all holds of that moment too, and a million of them are read page by page:
those that a page still finds, and those that have ended since, by `moves`. `reserve` notes nothing, because the
order's own time says whether it came later; only of the same millisecond the look says which came before.
A second look begins `moves` anew, so that the first one finds its own gone.
Changes no stock.
May run at maxmemory: it adds one short list, which expires unless the look goes on.

KEYS
  1   sale
  2   stock
  3   limits
  4   deadlines
  5   moves

ARGV
  1   lookId       random
  2   movesTtlMs   how long `moves` is kept while the look does not go on (ms)
  3…  field        of the limits, one each

Replies
  looked        now (Unix ms), epoch, changeNo (of the last change that was decided), mends, JSON lists: stock
                (field and value in turn), the values of the given limits (0 where there is none), and orders of
                this very millisecond; the last deadline of a held order (Unix ms; 0: none is held)
  not-at-rest   the sale's data are missing or being made again, or are another server's
]]
local saleKey, stockKey, limitsKey, deadlinesKey, movesKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local lookId, movesTtlMs = ARGV[1], ARGV[2]
local firstRepeated = 3

-- include shared/server.lua
-- include shared/integer.lua
-- include shared/clock.lua

local sale = redis.call('HMGET', saleKey, 'epoch', 'run_id', 'rebuilding', 'mends', 'change_no', 'payment_window')
if not sale[1] or sale[3] or not isOfServer(sale[2]) then
  return { 'not-at-rest' }
end
local now = nowMs()
local limits = {}
for i = firstRepeated, #ARGV do
  local field = ARGV[i]
  limits[#limits + 1] = redis.call('HGET', limitsKey, field) or '0'
end
local stock = cjson.encode(redis.call('HGETALL', stockKey))
-- An order of this millisecond has this deadline.
local deadline = integer(now + (tonumber(sale[6]) or 0))
local tied = cjson.encode(redis.call('ZRANGEBYSCORE', deadlinesKey, deadline, deadline))
local lastHeld = redis.call('ZREVRANGE', deadlinesKey, 0, 0, 'WITHSCORES')
local when, lastDeadline = integer(now), integer(tonumber(lastHeld[2]) or 0)
-- A sale from before `change_no` has had no change.
local changeNo = sale[5] or '1'

-- Writes.
redis.call('DEL', movesKey)
redis.call('RPUSH', movesKey, lookId)
redis.call('PEXPIRE', movesKey, movesTtlMs)
return { 'looked', when, sale[1], changeNo, sale[4] or '0', stock, cjson.encode(limits), tied, lastDeadline }
