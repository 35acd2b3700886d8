-- ARGV: now, counters (JSON). Returns {spent, leased, held, limit or -1} for each, or {} for one that is not known.
local answer = {}
for i, counter in ipairs(cjson.decode(ARGV[2])) do
  local found = redis.call('HMGET', counter_key(counter), 'spent', 'leased', 'held', 'limit')
  answer[i] = found[1] and {
    tonumber(found[1]), tonumber(found[2] or '0'), tonumber(found[3] or '0'), tonumber(found[4] or '-1'),
  } or {}
end
return answer
