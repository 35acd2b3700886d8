-- Budgets, shared by the scripts of owners (budget_*.lua) and of tasks; runs before the prelude. For each counter
-- spent + leased + held <= limit, where `leased` is the sum of all owners' slices and `held` what tasks hold.
-- Amounts are at most MOST and reach Redis as numbers, never by tostring, which would round them.

local function counter_key(counter) return BUDGET_PREFIX .. counter end

local function is_begun(counter) return redis.call('HEXISTS', counter_key(counter), 'spent') == 1 end

-- Names are <kind>:<id>:<unit>:<window>[:<begin>], and ids hold no colon.
local function unit_of(counter) return string.match(counter, '^[^:]*:[^:]*:([^:]*)') end

-- What a session or a run may spend in total has no window, and anybody can name a new one: it is forgotten when nothing
-- was done with it for long, and then begins from the ledger.
local function keep_while_used(counter)
  if (string.match(counter, '^session:') or string.match(counter, '^run:')) and string.match(counter, ':total$') then
    redis.call('PEXPIREAT', counter_key(counter), now + UNTOUCHED_MS)
  end
end

local function scope_key(scope) return SCOPE_PREFIX .. scope end

-- Anybody can name a new session or run, so the hash of its counters leaves Redis, after the last of them. It is kept up
-- to a day longer than they are, so that it need not be written each time. `at` in ms.
local function keep_scope(scope, at)
  if not (string.match(scope, '^session:') or string.match(scope, '^run:')) then return end
  local key = scope_key(scope)
  if redis.call('PEXPIRETIME', key) < at then redis.call('PEXPIREAT', key, at + 86400000) end
end

-- Let settlements find the counter by its scope. Of several windows the newest counts: nothing is admitted in the others.
local function enlist(counter, expires_at)
  local scope, field, ending = string.match(counter, '^([^:]*:[^:]*):([^:]*:[^:]*):?(.*)$')
  if not scope or unit_of(counter) == 'concurrent' then return end
  local newest = redis.call('HGET', scope_key(scope), field)
  if not newest or newest < ending then redis.call('HSET', scope_key(scope), field, ending) end
  keep_scope(scope, math.max(expires_at, now + UNTOUCHED_MS))
end

-- Set a counter up, unless it is. `expires_at` in ms, -1: its window has no end.
local function begin(counter, spent, expires_at)
  local key = counter_key(counter)
  if redis.call('HSETNX', key, 'spent', spent) == 0 then return end
  redis.call('HDEL', key, 'opened_at', 'late')
  redis.call('PERSIST', key)
  if expires_at >= 0 then
    redis.call('PEXPIREAT', key, math.max(expires_at, now + LEAST_MS))
  else
    keep_while_used(counter)
  end
  enlist(counter, expires_at)
end

-- A counter that Redis does not know is not made by adding to it: its window is long over. One that is being begun takes
-- what is spent, which may not be in the ledger's sum.
local function add(counter, name, amount)
  local key = counter_key(counter)
  if amount == 0 then return end
  if redis.call('HEXISTS', key, 'spent') == 0 then
    if name == 'spent' and redis.call('HEXISTS', key, 'late') == 1 then redis.call('HINCRBY', key, 'late', amount) end
    return
  end
  redis.call('HINCRBY', key, name, amount)
  keep_while_used(counter)
end

local function amounts_of(counter)
  local found = redis.call('HMGET', counter_key(counter), 'spent', 'leased', 'held', 'limit')
  return tonumber(found[1] or '0'), tonumber(found[2] or '0'), tonumber(found[3] or '0'), tonumber(found[4] or '0')
end

local function owner_key(owner) return OWNER_PREFIX .. owner end
local function slices_key(owner) return OWNER_PREFIX .. owner .. ':slices' end
local function settled_key(owner) return OWNER_PREFIX .. owner .. ':settled' end
local function open_key(owner) return OWNER_PREFIX .. owner .. ':open' end
local function answers_key(owner) return OWNER_PREFIX .. owner .. ':answers' end

local function slice_of(owner, counter)
  return tonumber(redis.call('HGET', slices_key(owner), counter) or '0')
end

-- Set aside `amount` more (less, when negative) for the owner, but never less than nothing.
local function set_aside(owner, counter, amount)
  if amount == 0 then return end
  local have = redis.call('HINCRBY', slices_key(owner), counter, amount)
  if have <= 0 then redis.call('HDEL', slices_key(owner), counter) end
  add(counter, 'leased', amount - math.min(have, 0))
end

-- 'alive', 'gone' or 'unknown'; what fate it met when it is gone ('taken', 'journal', 'lost', 'left').
local function owner_state(owner)
  if redis.call('EXISTS', owner_key(owner)) == 0 then return 'unknown', nil end
  local fate = redis.call('HGET', owner_key(owner), 'fate')
  if fate then return 'gone', fate end
  return 'alive', nil
end

local function is_settled(owner, number)
  local watermark = tonumber(redis.call('HGET', owner_key(owner), 'watermark') or '1')
  return number < watermark or redis.call('ZSCORE', settled_key(owner), number) ~= false
end

-- Nothing of the owner is left but the memory of what it has settled, for calls that are made twice.
local function close_owner(owner)
  for _, counter in ipairs(redis.call('HKEYS', slices_key(owner))) do
    set_aside(owner, counter, -slice_of(owner, counter))
  end
  redis.call('ZREM', OWNERS, owner)
  redis.call('DEL', slices_key(owner), open_key(owner), answers_key(owner))
  redis.call('PEXPIRE', owner_key(owner), REMEMBERED_MS)
  redis.call('PEXPIRE', settled_key(owner), REMEMBERED_MS)
end

-- A number of a usage record. Inside a string of it every quote has a backslash before it, so this finds the field only.
local function number_in(usage, name)
  return math.min(MOST, tonumber(string.match(usage, '"' .. name .. '":(%d+)') or '0'))
end

-- What a request or task that used this much costs of a counter. It is one, however often it is tried.
local function cost_in(counter, tokens, nano_usd)
  local unit = unit_of(counter)
  return math.min(MOST, unit == 'tokens' and tokens or unit == 'nano_usd' and nano_usd or unit == 'requests' and 1 or 0)
end

-- --- what is spent of counters without having been reserved: they were begun while it ran, or had no limit when it came.

-- The counters that Redis has of these scopes (names with spaces between): {{counter, its name without its window's begin,
-- scope, field}, ...}.
local function counters_of(scopes)
  local found = {}
  for scope in string.gmatch(scopes, '%S+') do
    local fields = redis.call('HGETALL', scope_key(scope))
    if #fields > 0 then keep_scope(scope, now + UNTOUCHED_MS) end
    for i = 1, #fields, 2 do
      local kind, ending = scope .. ':' .. fields[i], fields[i + 1]
      found[#found + 1] = {ending == '' and kind or kind .. ':' .. ending, kind, scope, fields[i]}
    end
  end
  return found
end

-- Whether one of `entries` ({{counter, ...}, ...}) is a counter of this kind, whatever the begin of its window.
local function has_kind(entries, kind)
  for _, entry in ipairs(entries) do
    if entry[1] == kind or string.sub(entry[1], 1, #kind + 1) == kind .. ':' then return true end
  end
  return false
end

-- Add what a record came to, to those counters of its scopes (`found`) that it has no entry for.
local function count_late(found, entries, usage)
  local has = {}
  for _, entry in ipairs(entries) do has[entry[1]] = true end
  for _, each in ipairs(found) do
    local counter = each[1]
    if not has[counter] and not has_kind(entries, each[2]) then
      local tokens = number_in(usage, 'prompt_tokens') + number_in(usage, 'completion_tokens')
      add(counter, 'spent', cost_in(counter, tokens, number_in(usage, 'nano_usd')))
      local spent, leased, held, limit = amounts_of(counter)
      if redis.call('EXISTS', counter_key(counter)) == 0 then
        redis.call('HDEL', scope_key(each[3]), each[4])
      elseif leased > 0 and spent + leased + held > limit then
        redis.call('ZADD', WANTED, now + WANTED_MS, counter)  -- owners have set aside what is spent now
      end
    end
  end
end

-- --- what a task holds. Its hash has `hold` (JSON: {{counter, amount of one attempt}, ...}), `hold:<i>` (what is held
-- now), and `used:<name>`, the sums of its attempts that failed. `unpaid` is there while it waits for what owners give
-- back: when (in ms) it is to be tried again if it can be paid for by then.

local USED = {'prompt_tokens', 'cached_tokens', 'completion_tokens', 'nano_usd'}

local function hold_of(key)
  local hold = field(key, 'hold')
  return hold and cjson.decode(hold) or {}
end

local function used_of(key, name) return tonumber(field(key, 'used:' .. name) or '0') end

-- The record with what failed attempts have used added to it.
local function with_used(key, usage)
  for _, name in ipairs(USED) do
    local used = used_of(key, name)
    if used > 0 then
      usage = string.gsub(usage, '"' .. name .. '":(%d+)', function(own)
        return '"' .. name .. '":' .. string.format('%.0f', tonumber(own) + used)
      end, 1)
    end
  end
  return usage
end

-- Take an owner's reservation over. Returns nil, or why it cannot be.
local function take_hold(key, owner, number, hold)
  local parts = cjson.decode(hold)
  local state, fate = owner_state(owner)
  if state ~= 'alive' then return 'its owner is ' .. (fate or state) end
  if is_settled(owner, number) then return 'it was settled before' end
  for _, part in ipairs(parts) do
    if slice_of(owner, part[1]) < part[2] then return 'its owner does not hold that much of ' .. part[1] end
  end
  for i, part in ipairs(parts) do
    set_aside(owner, part[1], -part[2])
    add(part[1], 'held', part[2])
    redis.call('HSET', key, 'hold:' .. i, part[2])
  end
  redis.call('ZADD', settled_key(owner), number, number)
  redis.call('HSET', key, 'hold', hold)
  return nil
end

-- The task was there before, so this reservation is not needed: it is free. Its owner hands it over either way.
local function free_hold(owner, number, hold)
  if owner_state(owner) ~= 'alive' or is_settled(owner, number) then return end
  for _, part in ipairs(cjson.decode(hold)) do set_aside(owner, part[1], -part[2]) end
  redis.call('ZADD', settled_key(owner), number, number)
end

-- The end of a life: what it held is free but for what `usage`, the whole record, says it came to. That is spent of what
-- it held, and of the other counters of its scopes.
local function settle_hold(key, usage)
  local hold = hold_of(key)
  local tokens = #hold > 0 and number_in(usage, 'prompt_tokens') + number_in(usage, 'completion_tokens')
  for i, part in ipairs(hold) do
    add(part[1], 'held', -tonumber(redis.call('HGET', key, 'hold:' .. i) or '0'))
    add(part[1], 'spent', cost_in(part[1], tokens, number_in(usage, 'nano_usd')))
    redis.call('HDEL', key, 'hold:' .. i)
  end
  count_late(counters_of(field(key, 'scopes') or ''), hold, usage)
  clear(key, 'hold', 'used:prompt_tokens', 'used:cached_tokens', 'used:completion_tokens', 'used:nano_usd')
end

-- What its attempts have used, with `usage` ('' for none) added.
local function used_with(key, usage)
  local sums = {}
  for _, name in ipairs(USED) do sums[name] = used_of(key, name) + number_in(usage, name) end
  return sums
end

local function remember_used(key, sums)
  for _, name in ipairs(USED) do
    if sums[name] > 0 then redis.call('HSET', key, 'used:' .. name, string.format('%.0f', sums[name])) end
  end
end

-- An attempt ended that is not the last, with `usage` ('' for none): may there be another? What was used and a whole new
-- attempt must be held; what is missing is taken of what is free. Returns nil, or the counter that has too little and,
-- where it would fit with what owners could give back, the counters of which they would have to; then nothing changed.
local function hold_for_another(key, usage)
  local sums = used_with(key, usage)
  local more, wanted = {}, {}
  for i, part in ipairs(hold_of(key)) do
    local counter = part[1]
    local held = tonumber(redis.call('HGET', key, 'hold:' .. i) or '0')
    local used = cost_in(counter, sums.prompt_tokens + sums.completion_tokens, sums.nano_usd)
    -- A request is counted once, however often it is tried.
    local missing = (unit_of(counter) == 'requests' and 0 or used) + part[2] - held
    if missing > 0 and is_begun(counter) then
      local spent, leased, all_held, limit = amounts_of(counter)
      -- One that does not fit whatever others give back decides.
      if missing > limit - spent - all_held then return counter, nil end
      if missing > limit - spent - leased - all_held then wanted[#wanted + 1] = counter end
      more[i] = {counter, missing}
    end
  end
  if #wanted > 0 then return wanted[1], wanted end
  for i, each in pairs(more) do
    add(each[1], 'held', each[2])
    redis.call('HINCRBY', key, 'hold:' .. i, each[2])
  end
  remember_used(key, sums)
  return nil
end

-- Ask the owners of `wanted` to give back what is unused, as a lease does, and remember what was used meanwhile.
local function wait_for_another(key, usage, wanted)
  for _, counter in ipairs(wanted) do redis.call('ZADD', WANTED, now + WANTED_MS, counter) end
  remember_used(key, used_with(key, usage))
end

-- The worker vanished in the middle, and nobody knows what the engine produced: the whole attempt counts as used, as it
-- was let in (`bound` of the latest replay or of the head: tokens of prompt and of answer, nano-dollars). Heads of before
-- say no nano-dollars; then the most that any budget reserved for it counts, with all tokens as the answer's. What an answer
-- had come to when this attempt went on with it (`partial`) is used already, and was part of the same bound.
local function count_whole_attempt(key)
  local found = redis.call('HMGET', key, 'head', 'bound', 'partial')
  local bound = found[2] and cjson.decode(found[2]) or cjson.decode(found[1]).bound
  local most = {completion_tokens = 0, nano_usd = 0}
  if type(bound) == 'table' and type(bound[3]) == 'number' then
    most = {prompt_tokens = bound[1], completion_tokens = bound[2], nano_usd = bound[3]}
  else
    for _, part in ipairs(hold_of(key)) do
      local unit = unit_of(part[1])
      local name = unit == 'tokens' and 'completion_tokens' or unit
      if most[name] then most[name] = math.max(most[name], part[2]) end
    end
  end
  if found[3] then
    local had = cjson.decode(found[3])
    if not most.prompt_tokens then had.completion_tokens = had.completion_tokens + had.prompt_tokens end
    for name in pairs(most) do most[name] = most[name] - had[name] end
  end
  for name, amount in pairs(most) do
    if amount > 0 then redis.call('HINCRBY', key, 'used:' .. name, math.min(MOST, amount)) end
  end
end
