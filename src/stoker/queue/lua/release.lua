-- ARGV: id, token, usage ('' for none). Returns 1, or 0 when the claim is not the newest.
local key, id, token, usage = KEYS[10], ARGV[4], ARGV[5], ARGV[6]
local answer = finishing(key, id, token, 'release', usage)
if answer ~= 'mine' then return answer == 'again' and 1 or 0 end
if field(key, 'cancel') then
  finish(key, id, 'cancelled', usage)
else
  try_again(key, id, usage, now)
end
return 1
