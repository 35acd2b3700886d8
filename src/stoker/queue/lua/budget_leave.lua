-- ARGV: now, owner. Returns 1, or 0 when it was taken for dead before.
local owner = ARGV[2]
local state, fate = owner_state(owner)
if state == 'gone' then return fate == 'left' and 1 or 0 end
if state == 'alive' then
  redis.call('HSET', owner_key(owner), 'fate', 'left')
  close_owner(owner)
end
return 1
