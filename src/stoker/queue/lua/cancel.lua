-- ARGV: id. Returns 1, or 0 when there is no such task.
local key, id = KEYS[10], ARGV[4]
local state = field(key, 'state')
if not state then return 0 end
if state == 'queued' then
  leave_queue(key, id)
  finish(key, id, 'cancelled', '')
elseif state == 'retrying' then
  redis.call('ZREM', DELAYED, id)
  finish(key, id, 'cancelled', '')
elseif state == 'running' then
  redis.call('HSET', key, 'cancel', '1')
  redis.call('PUBLISH', EVENTS, id)
end
return 1
