-- ARGV: id, the number of its life, how the delivery stands (JSON), in how many ms it is tried again ('': not any more).
-- Returns 1; 0 when that life is to be told of no more, and then nothing changes.
local key, id, member = KEYS[10], ARGV[4], ARGV[5] .. ':' .. ARGV[4]
if not redis.call('ZSCORE', CALLBACKS, member) then return 0 end
local state = field(key, 'state')
if not state or (field(key, 'replays') or '0') ~= ARGV[5] then
  redis.call('ZREM', CALLBACKS, member)
  return 0
end
redis.call('HSET', key, 'delivery', ARGV[6])
if ARGV[7] == '' then
  redis.call('ZREM', CALLBACKS, member)
else
  redis.call('ZADD', CALLBACKS, now + tonumber(ARGV[7]), member)
end
return 1
