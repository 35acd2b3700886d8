-- ARGV: now, counter. Returns {when it was opened in ms, what was settled since}, or {} when it is begun.
local counter = ARGV[2]
local key = counter_key(counter)
if is_begun(counter) then return {} end
redis.call('HSETNX', key, 'opened_at', now)
redis.call('HSETNX', key, 'late', 0)
redis.call('PEXPIREAT', key, now + OPENING_MS)
enlist(counter, -1)
local found = redis.call('HMGET', key, 'opened_at', 'late')
return {tonumber(found[1]), tonumber(found[2])}
