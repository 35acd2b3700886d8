-- Returns {lag, pending, delayed, dead}; lag is what XINFO GROUPS says, since that is what KEDA reads. Where Redis cannot
-- say it (somebody deleted entries by hand) it is 0, as it is to KEDA.
local lag, pending = 0, 0
if redis.call('EXISTS', TASKS) == 1 then
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', TASKS)) do
    local info = {}
    for i = 1, #group, 2 do info[group[i]] = group[i + 1] end
    if info['name'] == GROUP then lag, pending = info['lag'] or 0, info['pending'] end
  end
end
return {lag, pending, redis.call('ZCARD', DELAYED), redis.call('XLEN', DEAD)}
