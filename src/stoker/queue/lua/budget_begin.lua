-- ARGV: now, counter, spent, expires at in ms (-1: never). Returns what counts as spent.
local key, expires_at = counter_key(ARGV[2]), tonumber(ARGV[4])
if redis.call('HSETNX', key, 'spent', ARGV[3]) == 1 and expires_at >= 0 then
  redis.call('PEXPIREAT', key, math.max(expires_at, now + LEAST_MS))
end
return tonumber(redis.call('HGET', key, 'spent'))
