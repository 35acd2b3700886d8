-- ARGV: now, owner, items (JSON: {{number, usage or false, {{counter, reserved, actual}, ...}, scopes}, ...}; names of
-- scopes with spaces between).
-- Returns {'settled', 1 or 0 for each}, or {'unknown'}.
local owner, items = ARGV[2], cjson.decode(ARGV[3])
local state, fate = owner_state(owner)
if state == 'unknown' then return {state} end

-- How much of what was reserved is taken out of the owner's slice, and how much becomes spent.
local function split(number, reserved, actual)
  if fate == 'lost' then return 0, math.max(0, actual - reserved) end  -- what was reserved counts as spent already
  if fate == 'journal' then
    local is_open = redis.call('SISMEMBER', open_key(owner), number) == 1
    return is_open and reserved or 0, actual
  end
  return math.min(reserved, actual), actual
end

-- Callers come more than once in a call, and their counters stay the same meanwhile.
local known = {}
local function counters_known_of(scopes)
  known[scopes] = known[scopes] or counters_of(scopes)
  return known[scopes]
end

-- Requests share their counters, so each counter is written once for all of them: {taken, spent} by counter.
local sums = {}

local function write(counter)
  local sum = sums[counter]
  sums[counter] = nil
  set_aside(owner, counter, -sum[1])
  add(counter, 'spent', sum[2])
end

local function gather(counter, taken, spent)
  local sum = sums[counter]
  if sum and (sum[1] + taken > MOST or sum[2] + spent > MOST) then  -- more than a double holds exactly
    write(counter)
    sum = nil
  end
  if sum then
    sum[1], sum[2] = sum[1] + taken, sum[2] + spent
  else
    sums[counter] = {taken, spent}
  end
end

local watermark = tonumber(redis.call('HGET', owner_key(owner), 'watermark') or '1')
local settled = settled_key(owner)
local answer = {'settled'}
for i, item in ipairs(items) do
  local number, usage = item[1], item[2]
  if number < watermark or redis.call('ZADD', settled, 'NX', number, number) == 0 then
    answer[i + 1] = 0
  else
    answer[i + 1] = 1
    for _, part in ipairs(item[3]) do
      gather(part[1], split(number, part[2], part[3]))
    end
    if usage then
      count_late(counters_known_of(item[4] or ''), item[3], usage)
      redis.call('XADD', USAGE_STREAM, '*', 'r', usage)
    end
    if fate then redis.call('SREM', open_key(owner), number) end
  end
end
local counters = {}
for counter in pairs(sums) do counters[#counters + 1] = counter end
table.sort(counters)  -- in one order, whichever it was asked in
for _, counter in ipairs(counters) do write(counter) end
if fate then redis.call('PEXPIRE', settled_key(owner), REMEMBERED_MS) end
if fate == 'journal' and redis.call('EXISTS', open_key(owner)) == 0 then close_owner(owner) end
return answer
