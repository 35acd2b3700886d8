-- ARGV: now, owner, by, open (JSON: {{number, {{counter, amount}, ...}}, ...}, or '' without a journal), usage (JSON).
-- Returns 1, or 0 when `by` does not have it.
local owner, by = ARGV[2], ARGV[3]
local key = owner_key(owner)
local found = redis.call('HMGET', key, 'fate', 'by', 'by_until')
if found[2] ~= by or tonumber(found[3]) <= now then return 0 end
if found[1] ~= 'taken' then return 1 end  -- done before

local function nothing_known()
  local slices = redis.call('HGETALL', slices_key(owner))
  for i = 1, #slices, 2 do
    if unit_of(slices[i]) ~= 'concurrent' then add(slices[i], 'spent', tonumber(slices[i + 1])) end
  end
end

local function all_but(open)
  local keep = {}
  for _, item in ipairs(open) do
    if not is_settled(owner, item[1]) then
      redis.call('SADD', open_key(owner), item[1])
      for _, part in ipairs(item[2]) do keep[part[1]] = (keep[part[1]] or 0) + part[2] end
    end
  end
  for _, counter in ipairs(redis.call('HKEYS', slices_key(owner))) do keep[counter] = keep[counter] or 0 end
  for counter, amount in pairs(keep) do set_aside(owner, counter, amount - slice_of(owner, counter)) end
end

if ARGV[4] == '' then nothing_known() else all_but(cjson.decode(ARGV[4])) end
redis.call('HSET', key, 'fate', ARGV[4] == '' and 'lost' or 'journal')
for _, record in ipairs(cjson.decode(ARGV[5])) do redis.call('XADD', USAGE_STREAM, '*', 'r', record) end
if redis.call('EXISTS', open_key(owner)) == 0 then close_owner(owner) end  -- all slices are free
return 1
