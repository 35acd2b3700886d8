-- ARGV: id, the number of its life, '1' when the message holds its body. Returns 1; 0 when that life does not lie dead here
-- (any more), and nothing changes.
local key, id = KEYS[10], ARGV[4]
if field(key, 'state') ~= 'dead' or (field(key, 'replays') or '0') ~= ARGV[5] then return 0 end
if ARGV[6] == '1' then redis.call('HDEL', key, 'body') end
leave_letters(key, id, 'forwarded', GONE_MS)
return 1
