-- ARGV: id, token, lease in ms. Returns a LeaseState.
local key, id, token, lease_ms = KEYS[10], ARGV[4], ARGV[5], tonumber(ARGV[6])
if not is_held(key, token) then return 'lost' end
redis.call('ZADD', LEASES, now + lease_ms, id)
return field(key, 'cancel') and 'cancelled' or 'held'
