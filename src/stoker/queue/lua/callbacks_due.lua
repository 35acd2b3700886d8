-- ARGV: for how many ms those that are taken are hidden from others, how many at most. Returns them: '<life>:<id>'.
local due = redis.call('ZRANGEBYSCORE', CALLBACKS, '-inf', now, 'LIMIT', '0', ARGV[3])
for _, member in ipairs(due) do redis.call('ZADD', CALLBACKS, now + tonumber(ARGV[2]), member) end
return due
