-- ARGV: how many of each kind at most. Returns {due, expired}: how many moved.
local most = ARGV[4]

local function to_the_end(key, id)
  count_whole_attempt(key)
  local reason = 'lease expired: worker ' .. field(key, 'worker') .. ' did not renew it, so it is taken for dead'
  if field(key, 'cancel') then
    finish(key, id, 'cancelled', '', reason)
  else
    redis.call('HSET', key, 'lost', '1')
    attempt_failed(key, id, reason, 0, cjson.encode({message = reason, type = 'server_error', code = 'lease_expired'}), '', '')
  end
end

-- What its attempts used was remembered when it began to wait, so there is no usage to add.
local function once_more_or_dead(key, id, at)
  if is_late(key, now) then return bury_late(key, id, '') end
  local short = hold_for_another(key, '')
  if short then return bury_unpaid(key, id, '', short) end
  redis.call('HDEL', key, 'unpaid')
  go_back(key, id, at)
end

local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', '0', most)
for _, id in ipairs(due) do
  redis.call('ZREM', DELAYED, id)
  local key = TASK_PREFIX .. id
  if redis.call('EXISTS', key) == 1 then
    local unpaid = field(key, 'unpaid')
    if unpaid then once_more_or_dead(key, id, tonumber(unpaid)) else enqueue(key, id) end
  end
end

local expired = redis.call('ZRANGEBYSCORE', LEASES, '-inf', now, 'LIMIT', '0', most)
for _, id in ipairs(expired) do
  redis.call('ZREM', LEASES, id)
  local key = TASK_PREFIX .. id
  local entry = field(key, 'entry')
  if entry then
    drop_entry(entry, true)
    to_the_end(key, id)
    redis.call('PUBLISH', EVENTS, id)
  end
end

if redis.call('EXISTS', TASKS) == 1 then
  -- One ticket for each task that waits, whoever has taken some away: a worker of the version before, which knows none.
  for _ = redis.call('XLEN', TASKS) - redis.call('ZCARD', LEASES) + 1, count_waiting() do add_ticket() end
  -- A worker that was woken and died before it took anything has swallowed the ring.
  if redis.call('XLEN', TASKS) > redis.call('ZCARD', LEASES) then ring() end
  -- Workers come and go with new names; the group forgets those that have been gone for an hour.
  for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', TASKS, GROUP)) do
    if consumer[4] == 0 and consumer[6] > 3600000 then
      redis.call('XGROUP', 'DELCONSUMER', TASKS, GROUP, consumer[2])
    end
  end
end
return {#due, #expired}
