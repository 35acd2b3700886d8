-- ARGV: id, head, body, timeout in ms ('' for none). Returns {1, submitted, deadline or ''}, or {0} when it exists.
local key, id, head, body, timeout = KEYS[9], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
if redis.call('EXISTS', key) == 1 then return {0} end
redis.call('HSET', key, 'head', head, 'body', body, 'submitted', now)
if timeout then redis.call('HSET', key, 'deadline', now + timeout) end
redis.call('SADD', MODELS, cjson.decode(head).model)
enqueue(key, id)
return {1, now, timeout and (now + timeout) or ''}
