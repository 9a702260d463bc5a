#!lua flags=allow-oom
--[[
Begin to make a sale's data again, under a new epoch.

From here on no hold ends or begins until the rebuild has ended: the scripts answer `sale-absent`. What the
rebuild writes anew is removed; stock and rules stay to be seen until `rebuild-end` replaces them.
A key of another type than its own is removed too, and its name noted in `damaged`: for what it had, see
`expire-void`.
Only the rebuild with the greatest epoch goes on: MySQL gives each its own.
Where an earlier one died, both lists of holds become one, a part a call.
Idempotent until the first write of the rebuild.
May run at maxmemory: it frees more than it takes.

KEYS
  1   sale
  2   limits
  3   deadlines
  4   restored
  5   returns
  6   void
  7   outbox
  8   damaged
  9   open
  10  unpaid

ARGV
  1   epoch       of the data to be made
  2   movedMax    holds added to those of an earlier rebuild (orders)

Replies
  begun
  moving          more holds are to be added: to be repeated
  superseded      the sale has this or a newer epoch, or a newer rebuild has begun: nothing was changed
]]
local saleKey, limitsKey, deadlinesKey, restoredKey = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local returnsKey, voidKey, outboxKey, damagedKey = KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local openKey, unpaidKey = KEYS[9], KEYS[10]
local epoch, movedMax = tonumber(ARGV[1]), ARGV[2]

-- include shared/server.lua
-- include shared/key-type.lua

local isSaleDamaged = isDamaged(saleKey, 'hash')
local sale = isSaleDamaged and {} or redis.call('HMGET', saleKey, 'epoch', 'rebuilding')
if (tonumber(sale[1]) or 0) >= epoch or (tonumber(sale[2]) or 0) > epoch then
  return { 'superseded' }
end

-- Writes.
if isDamaged(damagedKey, 'set') then
  redis.call('UNLINK', damagedKey)
end
for _, key in ipairs({
  { name = 'sale', key = saleKey, isDamaged = isSaleDamaged },
  { name = 'deadlines', key = deadlinesKey, isDamaged = isDamaged(deadlinesKey, 'zset') },
  { name = 'void', key = voidKey, isDamaged = isDamaged(voidKey, 'zset') },
  { name = 'outbox', key = outboxKey, isDamaged = isDamaged(outboxKey, 'stream') },
}) do
  if key.isDamaged then
    redis.call('SADD', damagedKey, key.name)
    redis.call('UNLINK', key.key)
  end
end
redis.call('HSET', saleKey, 'suspended', '1', 'rebuilding', ARGV[1], 'rebuilding_run_id', serverRunId())
-- The orders whose holds become void: their hashes have no end yet.
if redis.call('EXISTS', voidKey) == 0 then
  if redis.call('EXISTS', deadlinesKey) == 1 then
    redis.call('RENAME', deadlinesKey, voidKey)
  end
else
  local moved = redis.call('ZPOPMIN', deadlinesKey, movedMax)
  for i = 1, #moved, 2 do
    redis.call('ZADD', voidKey, moved[i + 1], moved[i])
  end
  if redis.call('EXISTS', deadlinesKey) == 1 then
    return { 'moving' }
  end
end
redis.call('UNLINK', limitsKey, restoredKey, returnsKey, openKey, unpaidKey)
return { 'begun' }
