-- ARGV: id. Its caller has what it came to, so that goes; that it was there stays, for as long as ended tasks are kept.
-- Returns 1, or 0 when there is no such task or it has not ended.
local key, id = KEYS[10], ARGV[4]
local state = field(key, 'state')
if state == 'dead' or state == 'forwarded' then
  leave_letters(key, id, 'cancelled', TTL_MS)
  redis.call('HDEL', key, 'error')
  -- A copy of its letter that comes back from another queue is of no use.
  redis.call('SET', GONE_PREFIX .. id, field(key, 'replays') or '0', 'PX', GONE_MS)
elseif state ~= 'done' and state ~= 'cancelled' and state ~= 'dropped' then
  return 0
end
redis.call('HDEL', key, 'body', 'result')
redis.call('DEL', CHUNKS_PREFIX .. id)
return 1
