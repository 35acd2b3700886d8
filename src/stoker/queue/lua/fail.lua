-- ARGV: id, token, reason, retry in ms ('' for good), error, usage ('' for none), partial ('' for none), 'lost' when its
-- engine went away under it. Returns 1, or 0 when the claim is not the newest.
local key, id, token, reason, retry_ms, error, usage, partial =
  KEYS[10], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9], ARGV[10]
local answer = finishing(key, id, token, 'fail', usage)
if answer ~= 'mine' then return answer == 'again' and 1 or 0 end
if field(key, 'cancel') then
  finish(key, id, 'cancelled', usage)
else
  if ARGV[11] == 'lost' then redis.call('HSET', key, 'lost', '1') end
  attempt_failed(key, id, reason, retry_ms, error, usage, partial)
end
return 1
