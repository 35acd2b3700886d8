-- ARGV: id. Returns {how many are likely to be taken before it ('' when it does not wait), how long tasks run in ms ('' when
-- nobody knows), how many run}.
local key, id = KEYS[10], ARGV[4]
local ahead = field(key, 'state') == 'queued' and ahead_of(share_in(key), id)
return {ahead or '', redis.call('HGET', ORDER, 'run_ms') or '', redis.call('ZCARD', LEASES)}
