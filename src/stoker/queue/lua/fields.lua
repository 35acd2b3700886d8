-- Reading a task's hash. Runs before money.lua. Each call of Redis from a script costs as much as a few lines of it, so a
-- script that reads many fields asks for all of them at once, with `know`; from then on `field` has them as they were then.
local MANY = {
  'state', 'token', 'last', 'head', 'bound', 'entry', 'started', 'charged', 'cancel', 'replays', 'due', 'unpaid', 'partial',
  'hold', 'scopes', 'used:prompt_tokens', 'used:cached_tokens', 'used:completion_tokens', 'used:nano_usd',
}
local PLACE = {}
for i, name in ipairs(MANY) do PLACE[name] = i end
local KNOWN = {}  -- by the key: the values of MANY, false where there is none

-- For a script that reads none of these of this task after it has written it.
local function know(key)
  KNOWN[key] = redis.call('HMGET', key, unpack(MANY))
end

local function field(key, name)
  local value = KNOWN[key] and PLACE[name] and KNOWN[key][PLACE[name]]
  if value == nil then value = redis.call('HGET', key, name) end
  return value or nil
end

-- Delete fields, those that are known not to be there without asking.
local function clear(key, ...)
  local there = {}
  for _, name in ipairs({...}) do
    if not (KNOWN[key] and PLACE[name] and KNOWN[key][PLACE[name]] == false) then there[#there + 1] = name end
  end
  if #there > 0 then redis.call('HDEL', key, unpack(there)) end
end
