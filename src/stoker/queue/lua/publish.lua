-- ARGV: id, token, token under which the answer began, number of the first chunk, chunks. Returns 1, or 0 when the claim is
-- not the newest.
local key, id, token, begun, first = KEYS[10], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
local stream = CHUNKS_PREFIX .. id
if not is_held(key, token) then return 0 end
local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', '1')[1]
local have = newest and tonumber(string.match(newest[1], '-(%d+)$')) or -1
for i = 8, #ARGV do
  local number = first + i - 8
  if number > have then redis.call('XADD', stream, begun .. '-' .. number, 'd', ARGV[i]) end
end
redis.call('PEXPIRE', stream, TTL_MS)
redis.call('PUBLISH', SAID_PREFIX .. id, '1')
return 1
