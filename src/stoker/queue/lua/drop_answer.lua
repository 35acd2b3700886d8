-- ARGV: id. Its caller has what it came to, so that goes; that it was there stays, for as long as ended tasks are kept.
-- Returns 1, or 0 when there is no such task or it has not ended.
local key, id = KEYS[10], ARGV[4]
local state = field(key, 'state')
if state == 'dead' then
  redis.call('XDEL', DEAD, field(key, 'entry'))
  redis.call('HSET', key, 'state', 'cancelled')
  redis.call('HDEL', key, 'entry', 'error')
  redis.call('XADD', ENDED, 'MAXLEN', '~', KEPT, '*', 'id', id, 'state', 'cancelled')
  redis.call('PEXPIRE', key, TTL_MS)
elseif state ~= 'done' and state ~= 'cancelled' then
  return 0
end
redis.call('HDEL', key, 'body', 'result')
redis.call('DEL', CHUNKS_PREFIX .. id)
return 1
