-- Which run of a server this is: another after a restart or a failover.
local function serverRunId()
  return string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') or ''
end

-- Whether the data of a sale that have this run id were made on this server. Data from before the field are trusted.
local function isOfServer(runId)
  return not runId or runId == serverRunId()
end
