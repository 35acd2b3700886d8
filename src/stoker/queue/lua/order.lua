-- Which of the tasks that wait is taken next: `policy/fairness.py`, whose arithmetic this is, on sorted sets. Runs before
-- the prelude. Everything hangs on ORDER (keys.waiting): <ORDER>:<priority> has the tenants that wait by their counters,
-- <ORDER>:<priority>:<tenant> their tasks by when they began to wait, and with ':served' behind it the counter of a tenant
-- that has none, for a while. Each step is at most O(log n) in tasks and tenants.
local ORDER = KEYS[9]
local PRIORITIES = {'interactive', 'normal', 'batch'}

local function lane_key(priority) return ORDER .. ':' .. priority end
local function waiting_key(priority, tenant) return ORDER .. ':' .. priority .. ':' .. tenant end
local function served_key(priority, tenant) return waiting_key(priority, tenant) .. ':served' end
local function number_of(name) return tonumber(redis.call('HGET', ORDER, name) or '0') end

-- What decides about a task's turn, and its model, by its head (JSON) and its bound of a later replay. Heads of the
-- version before say less.
local SHARES = {}  -- by the head: tasks of one caller often have the same

local function share_of(head, bound)
  if not bound and SHARES[head] then return SHARES[head] end
  local said = cjson.decode(head)
  local most = bound and cjson.decode(bound) or said.bound
  local tokens = type(most) == 'table' and most[1] + most[2] or 1
  local share = {
    model = said.model, priority = said.priority or 'normal', tenant = said.tenant, weight = said.weight or 1,
    tokens = math.max(1, tokens),
  }
  if not bound then SHARES[head] = share end
  return share
end

local function share_in(key)
  if KNOWN[key] then return share_of(field(key, 'head'), field(key, 'bound')) end
  local found = redis.call('HMGET', key, 'head', 'bound')
  return share_of(found[1], found[2])
end

local function service(tokens, weight)
  local units = math.min(tokens, MOST_TOKENS) * UNITS_PER_TOKEN
  return (units - units % weight) / weight
end

-- Numbers reach Redis as such, never by tostring, which would round them.
local function serve(share, amount)
  if redis.call('ZADD', lane_key(share.priority), 'XX', 'INCR', amount, share.tenant) then return end
  local served = served_key(share.priority, share.tenant)
  if redis.call('EXISTS', served) == 1 then redis.call('INCRBY', served, amount) end
end

-- How many wait.
local function count_waiting()
  local waiting = 0
  for _, priority in ipairs(PRIORITIES) do waiting = waiting + number_of('count:' .. priority) end
  return waiting
end

local function begin_to_wait(share, id)
  local priority, tenant = share.priority, share.tenant
  local lane, tasks, served = lane_key(priority), waiting_key(priority, tenant), served_key(priority, tenant)
  if not redis.call('ZSCORE', lane, tenant) then
    local least = redis.call('ZRANGE', lane, '0', '0', 'WITHSCORES')[2]
    least = least and tonumber(least) or number_of('floor:' .. priority)
    redis.call('ZADD', lane, math.max(tonumber(redis.call('GET', served) or '0'), least), tenant)
    redis.call('DEL', served)
    if count_waiting() == 0 then redis.call('HDEL', ORDER, 'tokens') end  -- what was counted wrongly ends here
  end
  redis.call('ZADD', tasks, redis.call('HINCRBY', ORDER, 'seq', 1), id)
  redis.call('HINCRBY', ORDER, 'count:' .. priority, 1)
  redis.call('HINCRBY', ORDER, 'tokens', share.tokens)
end

-- False when it did not wait.
local function stop_waiting(share, id)
  local priority, tenant = share.priority, share.tenant
  local lane, tasks = lane_key(priority), waiting_key(priority, tenant)
  if redis.call('ZREM', tasks, id) == 0 then return false end
  redis.call('HINCRBY', ORDER, 'count:' .. priority, -1)
  redis.call('HINCRBY', ORDER, 'tokens', -(share.tokens or 0))  -- unknown of what somebody deleted by hand
  if redis.call('EXISTS', tasks) == 0 then
    local counter = tonumber(redis.call('ZSCORE', lane, tenant) or '0')
    redis.call('SET', served_key(priority, tenant), counter, 'PX', SERVED_MS)
    redis.call('ZREM', lane, tenant)
    if redis.call('EXISTS', lane) == 0 then redis.call('HSET', ORDER, 'floor:' .. priority, counter) end
  end
  return true
end

-- Whose turn it is: priority, tenant, id; nil when nothing waits. What somebody deleted by hand stops nobody else.
-- For each priority the tenant whose turn it is, as `next_waiting` last found it; false: nothing of it waits, and nothing
-- will as long as the script runs, since none that takes tasks adds any.
local NEXT = {}
local IS_FORGOTTEN = {}  -- fields `passed:` that this script has deleted

local function next_waiting()
  local waiting = {}
  for _, priority in ipairs(PRIORITIES) do
    if NEXT[priority] ~= false then NEXT[priority] = redis.call('ZRANGE', lane_key(priority), '0', '0')[1] or false end
    if NEXT[priority] then waiting[#waiting + 1] = priority end
  end
  if #waiting == 0 then
    redis.call('HDEL', ORDER, 'count:interactive', 'count:normal', 'count:batch')
    return nil
  end
  local chosen = waiting[1]
  if #waiting > 1 then
    for _, priority in ipairs(waiting) do
      if number_of('passed:' .. priority) >= MOST_PASSED then
        chosen = priority
        break
      end
    end
  end
  local tenant = NEXT[chosen]
  local id = redis.call('ZRANGE', waiting_key(chosen, tenant), '0', '0')[1]
  if id then return chosen, tenant, id end
  redis.call('ZREM', lane_key(chosen), tenant)
  return next_waiting()
end

-- Take the one that `next_waiting` chose; it counts as what it may take at most. Returns how much that is.
local function take_waiting(share, id)
  stop_waiting(share, id)
  local amount = service(share.tokens, share.weight)
  serve(share, amount)
  for i = 2, #PRIORITIES do
    local priority = PRIORITIES[i]
    local is_passed = priority ~= share.priority and NEXT[priority]
    if is_passed then
      redis.call('HINCRBY', ORDER, 'passed:' .. priority, 1)
    elseif not IS_FORGOTTEN[priority] then
      redis.call('HDEL', ORDER, 'passed:' .. priority)
    end
    IS_FORGOTTEN[priority] = not is_passed
  end
  return amount
end

-- An attempt ended, and took so many tokens.
local function correct_share(key, tokens)
  local charged = field(key, 'charged')
  if not charged then return end
  local share = share_in(key)
  serve(share, service(tokens, share.weight) - tonumber(charged))
  clear(key, 'charged')
end

-- A task ran for so long: for estimates.
local function remember_run(run_ms)
  local before = redis.call('HGET', ORDER, 'run_ms')
  redis.call('HSET', ORDER, 'run_ms', before and math.floor((7 * tonumber(before) + run_ms) / 8) or run_ms)
end

-- Whether one more of this share may not wait: nil, or {'tenant' or 'model', how many wait, how many tenants wait}.
local function too_many(share, most_of_tenant, most_of_model)
  if not most_of_tenant and not most_of_model then return nil end
  local of_tenant, of_model = 0, count_waiting()
  for _, priority in ipairs(PRIORITIES) do
    of_tenant = of_tenant + redis.call('ZCARD', waiting_key(priority, share.tenant))
  end
  local tenants = redis.call('ZCARD', lane_key(share.priority))
  if most_of_tenant and of_tenant >= most_of_tenant then return {'tenant', of_tenant, tenants} end
  if most_of_model and of_model >= most_of_model then return {'model', of_model, tenants} end
  return nil
end

-- How many are likely to be taken before one that waits; nil when it does not.
local function ahead_of(share, id)
  local priority, tenant = share.priority, share.tenant
  local own = redis.call('ZRANK', waiting_key(priority, tenant), id)
  if not own then return nil end
  local ahead, before = own, 1
  for _, name in ipairs(redis.call('ZRANGE', lane_key(priority), '0', LOOKED_AT - 1)) do
    if name == tenant then
      before = 0
    else
      ahead = ahead + math.min(redis.call('ZCARD', waiting_key(priority, name)), own + before)
    end
  end
  ahead = ahead + math.max(0, redis.call('ZCARD', lane_key(priority)) - LOOKED_AT - before) * (own + 1)
  ahead = math.min(ahead, number_of('count:' .. priority) - 1)
  for _, higher in ipairs(PRIORITIES) do
    if higher == priority then return ahead end
    ahead = ahead + number_of('count:' .. higher)
  end
end
