-- ARGV: now, owner, ttl in ms, watermark, holding (JSON: {{counter, amount}, ...}), the number of this call: the calls
-- that its owner made before do not count any more, since it states what it holds; numbers of reservations that are
-- settled (JSON).
-- Returns {'alive'}, {'gone'}, or {'not begun', counter, ...}.
local owner, ttl, watermark, holding = ARGV[2], tonumber(ARGV[3]), ARGV[4], cjson.decode(ARGV[5])
local state = owner_state(owner)
if state == 'gone' then return {state} end
if state == 'unknown' then
  local missing = {'not begun'}
  for _, part in ipairs(holding) do
    if not is_begun(part[1]) then missing[#missing + 1] = part[1] end
  end
  if #missing > 1 then return missing end
  redis.call('HSET', owner_key(owner), 'watermark', watermark, 'calls_from', ARGV[6])
  for _, part in ipairs(holding) do set_aside(owner, part[1], part[2]) end
  for _, number in ipairs(cjson.decode(ARGV[7])) do redis.call('ZADD', settled_key(owner), number, number) end
end
redis.call('ZADD', OWNERS, now + ttl, owner)
return {'alive'}
