-- ARGV: id, and of a reservation that it takes over: its parts (JSON, '' for none: then owner and number only name the
-- call), owner, number; its bound now (JSON, '' for the one it had); and of a letter that comes back from outside: the number
-- of its life ('' for none: only what lies dead here is replayed), head, body ('' for the one that is here), submitted, scopes.
-- Returns {the state that it found ('' for no such task)}; only a dead one is changed. {'dead', why} when the reservation is not
-- the owner's. Of a letter {'over'} when this life was replayed or dropped before, {'bodiless'} when nobody has its body.
local key, id = KEYS[10], ARGV[4]
local state, replay, life = field(key, 'state'), ARGV[6] .. ':' .. ARGV[7], tonumber(ARGV[9])
if state and field(key, 'replay') == replay then return {'dead'} end  -- the same call again
local body = field(key, 'body') or ARGV[11]
if not life then
  if state ~= 'dead' then return {state or ''} end
elseif state and (tonumber(field(key, 'replays') or '0') ~= life or (state ~= 'dead' and state ~= 'forwarded')) then
  return {'over'}
elseif not state and tonumber(redis.call('GET', GONE_PREFIX .. id) or '-1') >= life then
  return {'over'}
elseif body == '' then
  return {'bodiless'}
end
if ARGV[5] ~= '' then
  local void = take_hold(key, ARGV[6], tonumber(ARGV[7]), ARGV[5])
  if void then return {'dead', void} end
end
redis.call('HSET', key, 'replay', replay)
if life then
  redis.call('HSET', key, 'body', body)
  if not state then
    redis.call('HSET', key, 'head', ARGV[10], 'submitted', ARGV[12], 'scopes', ARGV[13], 'replays', life)
    redis.call('SADD', MODELS, cjson.decode(ARGV[10]).model)
  end
end
local entry = field(key, 'entry')
if entry then redis.call('XDEL', DEAD, entry) end
redis.call('PERSIST', key)
redis.call('HDEL', key, 'error', 'history', 'failed', 'ended', 'started', 'worker', 'cancel', 'last', 'delivery', 'lost')
redis.call('SET', GONE_PREFIX .. id, redis.call('HINCRBY', key, 'replays', 1) - 1, 'PX', GONE_MS)
if ARGV[8] ~= '' then redis.call('HSET', key, 'bound', ARGV[8]) end
redis.call('DEL', CHUNKS_PREFIX .. id)
local timeout_s = cjson.decode(field(key, 'head')).timeout_s
if type(timeout_s) == 'number' then
  redis.call('HSET', key, 'deadline', now + math.ceil(timeout_s * 1000))
end
enqueue(key, id)
return {'dead'}
