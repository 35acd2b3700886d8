-- ARGV: id, token, usage ('' for none), partial ('' for none). Returns 1, or 0 when the claim is not the newest.
local key, id, token, usage, partial = KEYS[10], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local answer = finishing(key, id, token, 'release', usage)
if answer ~= 'mine' then return answer == 'again' and 1 or 0 end
if field(key, 'cancel') then
  finish(key, id, 'cancelled', usage)
elseif partial ~= '' then
  go_on(key, id, usage, partial, now)
elseif usage == '' and field(key, 'partial') then
  go_back(key, id, now)  -- nothing was tried, and the next one goes on as this one would have
else
  redis.call('HDEL', key, 'partial')
  try_again(key, id, usage, now)
end
return 1
