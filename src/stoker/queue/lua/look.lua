-- ARGV: '1' when it is wanted whatever its state. Returns the task's hash as a flat list when it has ended or is wanted, an
-- empty list when it has not ended, 1 when it is too large to go through a script, and false when there is none.
local key = KEYS[10]
local state = field(key, 'state')
if not state then return false end
if ARGV[4] ~= '1' and (state == 'queued' or state == 'running' or state == 'retrying') then return {} end
if redis.call('HSTRLEN', key, 'body') + redis.call('HSTRLEN', key, 'result') > 65536 then return 1 end
return redis.call('HGETALL', key)
