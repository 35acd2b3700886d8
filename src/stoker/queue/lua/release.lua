-- ARGV: id, token, usage ('' for none). Returns 1, or 0 when the claim is not the newest.
local key, id, token, usage = KEYS[9], ARGV[4], ARGV[5], ARGV[6]
local answer = finishing(key, id, token, 'release')
if answer ~= 'mine' then return answer == 'again' and 1 or 0 end
if field(key, 'cancel') then
  finish(key, id, 'cancelled', usage)
else
  local short = hold_for_another(key, usage)
  if short then bury_unpaid(key, id, usage, short) else enqueue(key, id) end
end
return 1
