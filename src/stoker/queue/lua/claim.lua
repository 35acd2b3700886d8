-- ARGV: worker, count, lease in ms. Returns {now, taken, dropped}: `taken` holds {id, lease end, hash as a flat list},
-- `dropped` the ids of entries without a task. Delivery and lease are one step: nobody can die between them.
local worker, want, lease_ms = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local taken, dropped = {}, {}
ensure_group()

local function take(entry, id)
  local key = TASK_PREFIX .. id
  if redis.call('EXISTS', key) == 0 then
    drop_entry(entry, true)
    dropped[#dropped + 1] = id
  elseif is_late(key, now) then
    drop_entry(entry, true)
    bury_late(key, id, '')
  else
    local token = redis.call('HINCRBY', key, 'token', 1)
    redis.call('HSET', key, 'state', 'running', 'worker', worker, 'started', now)
    redis.call('ZADD', LEASES, now + lease_ms, id)
    if token > 1 then redis.call('DEL', CHUNKS_PREFIX .. id) end
    taken[#taken + 1] = {id, now + lease_ms, redis.call('HGETALL', key)}
  end
end

while #taken < want do
  local reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', want - #taken, 'STREAMS', TASKS, '>')
  if not reply then break end
  for _, found in ipairs(reply[1][2]) do take(found[1], found[2][2]) end
end
if #taken == want then
  ring()  -- there may be more, for another worker that waits
else
  redis.call('DEL', BELL)
end
return {now, taken, dropped}
