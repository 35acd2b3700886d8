-- ARGV: now, owner, by, ttl in ms, whether it is proved dead. Returns {1, counter, amount, ...} or {0}.
local owner, by, ttl, is_proved = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1'
local ends = redis.call('ZSCORE', OWNERS, owner)
if not ends then return {0} end
local key = owner_key(owner)
local found = redis.call('HMGET', key, 'fate', 'by', 'by_until')
if not found[1] and tonumber(ends) > now and not is_proved then return {0} end
if found[2] and found[2] ~= by and tonumber(found[3]) > now then return {0} end
redis.call('HSETNX', key, 'fate', 'taken')
redis.call('HSET', key, 'by', by, 'by_until', now + ttl)
redis.call('ZADD', OWNERS, 0, owner)
local answer = {1}
local slices = redis.call('HGETALL', slices_key(owner))
for i = 1, #slices, 2 do
  answer[#answer + 1] = slices[i]
  answer[#answer + 1] = tonumber(slices[i + 1])
end
return answer
