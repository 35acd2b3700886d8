-- ARGV: id, head, body, timeout in ms ('' for none), and of a reservation that it takes over: its parts (JSON, '' for
-- none), owner, number; its scopes; how many of its tenant and how many of all may wait ('' for any number). Returns
-- {1, submitted, deadline or ''}, {0} when it exists, {2, why} when the reservation is not the owner's, and when it may not
-- wait {3, 'tenant' or 'model', how many wait, how many tenants do, how long tasks run in ms or '', how many run}.
local key, id, head, body, timeout = KEYS[10], ARGV[4], ARGV[5], ARGV[6], tonumber(ARGV[7])
if redis.call('EXISTS', key) == 1 then
  if ARGV[8] ~= '' then free_hold(ARGV[9], tonumber(ARGV[10]), ARGV[8]) end
  return {0}
end
local share = share_of(head)
local full = too_many(share, tonumber(ARGV[12]), tonumber(ARGV[13]))
if full then
  return {3, full[1], full[2], full[3], redis.call('HGET', ORDER, 'run_ms') or '', redis.call('ZCARD', LEASES)}
end
if ARGV[8] ~= '' then
  local void = take_hold(key, ARGV[9], tonumber(ARGV[10]), ARGV[8])
  if void then return {2, void} end
end
redis.call('HSET', key, 'head', head, 'body', body, 'submitted', now, 'scopes', ARGV[11], 'state', 'queued')
if timeout then redis.call('HSET', key, 'deadline', now + timeout) end
redis.call('SADD', MODELS, share.model)
let_wait(id, share)
return {1, now, timeout and (now + timeout) or ''}
