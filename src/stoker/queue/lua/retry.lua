-- ARGV: id. Returns the state that it found ('' for no such task); only a dead one is changed.
local key, id = KEYS[9], ARGV[4]
local state = field(key, 'state')
if state ~= 'dead' then return state or '' end
redis.call('XDEL', DEAD, field(key, 'entry'))
redis.call('HDEL', key, 'error', 'history', 'failed', 'ended', 'started', 'worker', 'cancel', 'last')
redis.call('HINCRBY', key, 'replays', 1)
redis.call('DEL', CHUNKS_PREFIX .. id)
local timeout_s = cjson.decode(field(key, 'head')).timeout_s
if type(timeout_s) == 'number' then
  redis.call('HSET', key, 'deadline', now + math.ceil(timeout_s * 1000))
end
enqueue(key, id)
return 'dead'
