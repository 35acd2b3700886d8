-- ARGV: now, owner, ttl in ms, watermark, calls that the caller has given up (JSON: numbers), the lowest number of a call
-- that may still be made, what is given back (JSON: {{number of the call, {{counter, amount}, ...}}, ...}).
-- Returns {state, wanted counter, ...}.
local owner, ttl, watermark, given_up, calls_from, given_back =
  ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), cjson.decode(ARGV[5]), tonumber(ARGV[6]), cjson.decode(ARGV[7])
local state = owner_state(owner)
if state ~= 'alive' then return {state} end
local answers = answers_key(owner)
local entered_at = tonumber(redis.call('HGET', owner_key(owner), 'calls_from'))
redis.call('ZADD', OWNERS, now + ttl, owner)

if watermark > tonumber(redis.call('HGET', owner_key(owner), 'watermark') or '1') then
  redis.call('HSET', owner_key(owner), 'watermark', watermark)
  redis.call('ZREMRANGEBYSCORE', settled_key(owner), '-inf', '(' .. ARGV[4])
end

-- A lease whose answer never arrived: its owner does not know of it, so nobody uses it. It may also still be on its way.
for _, call in ipairs(given_up) do
  local before = redis.call('HGET', answers, string.format('%.0f', call))
  if before and before ~= 'void' then
    for _, part in ipairs(cjson.decode(before)) do set_aside(owner, part[1], -part[2]) end
  end
  redis.call('HSET', answers, string.format('%.0f', call), 'void')
end
for _, back in ipairs(given_back) do
  local call = string.format('%.0f', back[1])
  -- One from before the owner entered anew: what it then stated to hold was without this. Or this very renewal arrives
  -- late, after one that has told to forget its calls.
  if back[1] >= entered_at and redis.call('HSETNX', answers, call, 'void') == 1 then
    for _, part in ipairs(back[2]) do set_aside(owner, part[1], -part[2]) end
  end
end
calls_from = math.max(calls_from, entered_at)
redis.call('HSET', owner_key(owner), 'calls_from', calls_from)
for _, call in ipairs(redis.call('HKEYS', answers)) do
  if tonumber(call) < calls_from then redis.call('HDEL', answers, call) end
end

redis.call('ZREMRANGEBYSCORE', WANTED, '-inf', now)
local answer = {'alive'}
for _, counter in ipairs(redis.call('ZRANGE', WANTED, 0, -1)) do
  if redis.call('HEXISTS', slices_key(owner), counter) == 1 then answer[#answer + 1] = counter end
end
return answer
