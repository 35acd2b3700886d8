-- ARGV: now, counter, spent, expires at in ms (-1: never), and of its opening: when that was in ms ('' for none), what was
-- settled before it. Returns what counts as spent, or -1 when Redis does not know that opening.
local counter, opened_at, before = ARGV[2], ARGV[5], tonumber(ARGV[6])
local key = counter_key(counter)
if not is_begun(counter) then
  local found = redis.call('HMGET', key, 'opened_at', 'late')
  if opened_at ~= '' and found[1] ~= opened_at then return -1 end
  local late = tonumber(found[2] or '0') - before
  begin(counter, ARGV[3], tonumber(ARGV[4]))
  redis.call('HINCRBY', key, 'spent', late)
end
return tonumber(redis.call('HGET', key, 'spent'))
