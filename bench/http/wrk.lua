--[[
The script that wrk runs: sends requests that were written down ahead, one after the other, and reports.

ARGS
  1   a file of requests, each ended by \0; in each, \1 stands for an idempotency key
  2   what the keys of this run begin with, so that no two runs share one
]]
local heads, tails, count, sent, prefix = {}, {}, 0, 0, ''

function init(args)
  local file = assert(io.open(args[1], 'rb'))
  for request in file:read('*a'):gmatch('([^%z]+)%z') do
    local head, tail = request:match('^(.-)\1(.*)$')
    count = count + 1
    heads[count], tails[count] = head or request, tail or false
  end
  file:close()
  prefix = args[2]
end

function request()
  sent = sent + 1
  local i = (sent - 1) % count + 1
  return tails[i] and heads[i] .. prefix .. sent .. tails[i] or heads[i]
end

-- os.clock is the processor time of the whole process, in seconds; wrk's own times are in microseconds.
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '\n{"answers":%d,"refusals":%d,"broken":%d,"seconds":%.6f,"cpuSeconds":%.3f,"p50Ms":%.3f,"p99Ms":%.3f}\n',
    summary.requests, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    summary.duration / 1e6, os.clock(), latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
