-- The consumers of a stream's group, each with its `name`, `pending` and `idle` (ms).
local function consumersOf(streamKey, group)
  local consumers = {}
  for i, row in ipairs(redis.call('XINFO', 'CONSUMERS', streamKey, group)) do
    consumers[i] = {}
    for j = 1, #row, 2 do
      consumers[i][row[j]] = row[j + 1]
    end
  end
  return consumers
end
