-- ARGV: id, and of a reservation that it takes over: its parts (JSON, '' for none), owner, number; its bound now (JSON,
-- '' for the one it had). Returns {the state that it found ('' for no such task)}; only a dead one is changed. {'dead', why}
-- when the reservation is not the owner's.
local key, id = KEYS[10], ARGV[4]
local state, replay = field(key, 'state'), ARGV[6] .. ':' .. ARGV[7]
if state and ARGV[5] ~= '' and field(key, 'replay') == replay then return {'dead'} end  -- the same call again
if state ~= 'dead' then return {state or ''} end
if ARGV[5] ~= '' then
  local void = take_hold(key, ARGV[6], tonumber(ARGV[7]), ARGV[5])
  if void then return {'dead', void} end
  redis.call('HSET', key, 'replay', replay)
end
redis.call('XDEL', DEAD, field(key, 'entry'))
redis.call('HDEL', key, 'error', 'history', 'failed', 'ended', 'started', 'worker', 'cancel', 'last')
redis.call('HINCRBY', key, 'replays', 1)
if ARGV[8] ~= '' then redis.call('HSET', key, 'bound', ARGV[8]) end
redis.call('DEL', CHUNKS_PREFIX .. id)
local timeout_s = cjson.decode(field(key, 'head')).timeout_s
if type(timeout_s) == 'number' then
  redis.call('HSET', key, 'deadline', now + math.ceil(timeout_s * 1000))
end
enqueue(key, id)
return {'dead'}
