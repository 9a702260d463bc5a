#!lua flags=allow-oom
--[[
Copy a state from MySQL into the projections that pollers read, for one order or for many that have it alike.

Only a greater version is applied, so a late or repeated copy never turns a status back. With an extended
deadline the order gets its place among the held orders, where it is one. The script touches no stock.
Where one has changed, one message with all their keys tells who watches orders to look. Only a hint: some may
be as they were, it is lost where no process listens, and a reader gets the state by a look-up.
May run at maxmemory: it rewrites fields that exist.

KEYS
  1   deadlines
  2   moves
  3   changes     the channel of the sale shard; no key, so that it lies in the slot of its orders
  4…  order

ARGV
  1   version     of the state, assigned by MySQL
  2   status
  3   payment
  4   reason      empty: none
  5   refunded    minor units that went back; 0: nothing did
  6   extendedUntil   to when the deadline was extended (Unix ms); empty: it was not
  7…  orderNo     of each order; none where the deadline was not extended

Replies, one an order
  projected
  stale           this or a newer version is there already
  wished          as one of both, and a wish to cancel the order waits that this state lacks: MySQL is to learn of it
  absent          the projection has expired or was lost; MySQL answers instead
]]
local version, status, payment, reason = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[4]
local refunded, extendedUntil = ARGV[5], ARGV[6]
local deadlinesKey, movesKey, changesKey = KEYS[1], KEYS[2], KEYS[3]
local firstRepeated = 7
local firstOrder = 4
-- Of a state that is not closing yet.
local takesWish = status == 'awaiting_payment' and reason == ''

local function extend(orderKey, orderNo)
  redis.call('HSET', orderKey, 'extended_until', extendedUntil)
  if redis.call('ZADD', deadlinesKey, 'XX', 'CH', extendedUntil, orderNo) == 1 then
    -- For a look that goes on (`look-sale`), and there only.
    redis.pcall('RPUSHX', movesKey, '>' .. orderNo)
  end
end

local orderNos = {}
for i = firstRepeated, #ARGV do
  local orderNo = ARGV[i]
  orderNos[#orderNos + 1] = orderNo
end

local replies, isChanged = {}, false
for i, orderKey in ipairs(KEYS) do
  if i >= firstOrder then
    local current = redis.call('HMGET', orderKey, 'version', 'wish', 'refunded')
    if not current[1] then
      replies[#replies + 1] = 'absent'
    else
      local isStale = (tonumber(current[1]) or -1) >= version
      if not isStale then
        redis.call('HSET', orderKey, 'version', ARGV[1], 'status', status, 'payment', payment, 'reason', reason)
        if refunded ~= '0' then
          redis.call('HSET', orderKey, 'refunded', refunded)
        elseif current[3] then
          redis.call('HDEL', orderKey, 'refunded')
        end
        if extendedUntil ~= '' then
          extend(orderKey, orderNos[i - firstOrder + 1])
        end
        isChanged = true
      end
      replies[#replies + 1] = takesWish and current[2] and 'wished' or isStale and 'stale' or 'projected'
    end
  end
end
if isChanged then
  -- An account that may not publish delays who watches, and nothing else.
  redis.pcall('SPUBLISH', changesKey, table.concat(KEYS, ' ', firstOrder))
end
return replies
