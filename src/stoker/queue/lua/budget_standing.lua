-- ARGV: now, names of scopes with spaces between. Returns {counter, spent, limit, ...} of those of their counters that
-- are begun and were leased of, in no order.
local answer = {}
for _, each in ipairs(counters_of(ARGV[2])) do
  local found = redis.call('HMGET', counter_key(each[1]), 'spent', 'limit')
  if found[1] and found[2] then
    answer[#answer + 1] = each[1]
    answer[#answer + 1] = tonumber(found[1])
    answer[#answer + 1] = tonumber(found[2])
  end
end
return answer
