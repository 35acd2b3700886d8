-- ARGV: now, counter, spent, expires at in ms (-1: never). Returns what counts as spent.
begin(ARGV[2], ARGV[3], tonumber(ARGV[4]))
return tonumber(redis.call('HGET', counter_key(ARGV[2]), 'spent'))
