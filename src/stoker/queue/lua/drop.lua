-- ARGV: id, who, why. Returns the state that it found ('' for no such task); only a dead one is changed. What it has used
-- was settled when it died. The log entry is made here, since it has to be there if, and only if, the letter is gone.
local key, id, by, why = KEYS[10], ARGV[4], ARGV[5], ARGV[6]
local state, mark = field(key, 'state'), ARGV[5] .. ':' .. ARGV[6]
if state == 'dropped' and field(key, 'dropped') == mark then return 'dead' end  -- the same call again
if state ~= 'dead' then return state or '' end
local head, code = cjson.decode(field(key, 'head')), cjson.decode(field(key, 'error')).code
if type(code) ~= 'string' or code == '' then code = 'task_failed' end
redis.call('XADD', DROPPED, 'MAXLEN', '~', DROPPED_KEPT, '*', 'd', cjson.encode({
  id = id, model = head.model, tenant = head.tenant, code = code, by = by, why = why,
  died_at = tonumber(field(key, 'ended')) / 1000, dropped_at = now / 1000,
}))
redis.call('SET', GONE_PREFIX .. id, field(key, 'replays') or '0', 'PX', GONE_MS)
redis.call('HSET', key, 'dropped', mark)
leave_letters(key, id, 'dropped', TTL_MS)
return 'dead'
