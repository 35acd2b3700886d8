-- Returns when the oldest waiting task was submitted, in ms; nil when none waits. Tasks of one tenant and priority wait in
-- the order in which they began to, so that one look for each of them is enough; of 1,000 tenants at most.
local oldest
for _, priority in ipairs(PRIORITIES) do
  for _, tenant in ipairs(redis.call('ZRANGE', lane_key(priority), '0', '999')) do
    local id = redis.call('ZRANGE', waiting_key(priority, tenant), '0', '0')[1]
    local submitted = id and tonumber(redis.call('HGET', 'stoker:task:' .. id, 'submitted') or nil)
    if submitted and (not oldest or submitted < oldest) then oldest = submitted end
  end
end
return oldest
