-- ARGV: id, token, result, usage ('' for none). Returns 1, or 0 when the claim is not the newest.
local key, id, token, result, usage = KEYS[10], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
know(key)
local answer = finishing(key, id, token, 'complete', usage)
if answer ~= 'mine' then return answer == 'again' and 1 or 0 end
remember_run(now - tonumber(field(key, 'started')))
if field(key, 'cancel') then
  finish(key, id, 'cancelled', usage)
else
  redis.call('HSET', key, 'result', result)
  finish(key, id, 'done', usage)
end
return 1
