-- ARGV: worker, count, lease in ms, how many tasks it runs. Returns {now, taken, dropped, is held back}: `taken` holds {id,
-- lease end, hash as a flat list}, `dropped` the ids of waiting tasks that are not there; held back: whose turn it is has to
-- run alone, and is left to a worker that runs nothing. Delivery, choice and lease are one step: nobody can die between.
local worker, want, lease_ms, beside = ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local taken, dropped = {}, {}
local is_full, is_held_back = false, false  -- full: it has one that runs alone, or the next one has to
ensure_group()

local function start(entry, key, id, token, charged)
  redis.call(
    'HSET', key, 'token', token, 'state', 'running', 'worker', worker, 'started', now, 'entry', entry, 'charged', charged
  )
  redis.call('ZADD', LEASES, now + lease_ms, id)
  if token > 1 and not field(key, 'partial') then redis.call('DEL', CHUNKS_PREFIX .. id) end
  taken[#taken + 1] = {id, now + lease_ms, redis.call('HGETALL', key)}
end

-- It was delivered, and nothing is taken for it. One of the version before names its task, which knows its entry.
local function return_ticket(entry, fields)
  drop_entry(entry, true)
  if fields[1] ~= 'id' then return add_ticket() end
  redis.call('HSET', TASK_PREFIX .. fields[2], 'entry', redis.call('XADD', TASKS, '*', 'id', fields[2]))
end

local function spend(entry, fields)
  local priority, tenant, id
  if is_full then return return_ticket(entry, fields) end
  if fields[1] == 'id' then id = fields[2] else priority, tenant, id = next_waiting() end  -- 'id': of the version before
  if not id then return drop_entry(entry, true) end  -- a ticket too many
  local key = TASK_PREFIX .. id
  local found = redis.call('HMGET', key, 'head', 'bound', 'deadline', 'token', 'lost', 'failed')
  local is_there = found[1]
  if is_there and not (found[3] and now >= tonumber(found[3])) then
    if runs_alone(found[1], found[5], found[6]) then
      is_full, is_held_back = true, beside > 0 or #taken > 0
      if is_held_back then return return_ticket(entry, fields) end
    end
    local token = tonumber(found[4] or '0') + 1
    return start(entry, key, id, token, priority and take_waiting(share_of(found[1], found[2]), id) or 0)
  end
  drop_entry(entry, true)
  if priority then stop_waiting({priority = priority, tenant = tenant}, id) end
  if is_there then bury_late(key, id, '') else dropped[#dropped + 1] = id end
end

while #taken < want and not is_full do
  local reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', want - #taken, 'STREAMS', TASKS, '>')
  if not reply then break end
  local tickets = reply[1][2]
  redis.call('HSET', ORDER, 'read', tickets[#tickets][1])  -- before any of them is dropped
  for _, ticket in ipairs(tickets) do spend(ticket[1], ticket[2]) end
end
if #taken == want or is_full then
  ring()  -- there may be more, for another worker that waits
else
  redis.call('DEL', BELL)
end
return {now, taken, dropped, is_held_back and 1 or 0}
