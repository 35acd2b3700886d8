-- KEYS[1]: of the thing that is done by one at a time. ARGV: who, for how many ms (0: not any more). Returns 1 when it is theirs.
local held = redis.call('HMGET', KEYS[1], 'holder', 'until')
local ttl = tonumber(ARGV[3])
if held[1] and held[1] ~= ARGV[2] and now < tonumber(held[2]) then return 0 end
if ttl == 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('HSET', KEYS[1], 'holder', ARGV[2], 'until', now + ttl)
return 1
