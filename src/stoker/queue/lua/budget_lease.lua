-- ARGV: now, owner, number of this call, asks (JSON: {{counter, limit, need, want, expires at in ms or -1, is new}, ...}).
-- Returns {'leased', granted, ...}, {'short', counter, free, fits later}, {'not begun', counter, ...},
-- {'not open', in ms or -1}, {'gone'}, {'unknown'}, or {'void'}: the call is older than the owner's last entry.
local owner, call, asks = ARGV[2], ARGV[3], cjson.decode(ARGV[4])

local state = owner_state(owner)
if state ~= 'alive' then return {state} end

-- The same call again, since its answer was lost on the way; or one that its caller has given up.
if tonumber(call) < tonumber(redis.call('HGET', owner_key(owner), 'calls_from')) then return {'void'} end
local before = redis.call('HGET', answers_key(owner), call)
if before == 'void' then return {before} end
if before then
  local answer = {'leased'}
  for _, part in ipairs(cjson.decode(before)) do answer[#answer + 1] = part[2] end
  return answer
end

local opens_at = redis.call('HGET', BOOKS, 'opens_at')
if not opens_at then return {'not open', -1} end
if now < tonumber(opens_at) then return {'not open', tonumber(opens_at) - now} end

local missing = {'not begun'}
for _, ask in ipairs(asks) do
  if not is_begun(ask[1]) then
    if ask[6] then begin(ask[1], '0', ask[5]) else missing[#missing + 1] = ask[1] end
  end
end
if #missing > 1 then return missing end

local frees, short = {}, nil
for i, ask in ipairs(asks) do
  local counter, limit, need = ask[1], ask[2], ask[3]
  redis.call('HSET', counter_key(counter), 'limit', limit)
  if ask[5] >= 0 then redis.call('PEXPIREAT', counter_key(counter), ask[5], 'GT') end
  local spent, leased, held = amounts_of(counter)
  frees[i] = limit - spent - leased - held
  if need > 0 and need > frees[i] then
    local fits_later = need <= limit - spent - held - slice_of(owner, counter)
    if fits_later then redis.call('ZADD', WANTED, now + WANTED_MS, counter) end
    -- One that does not fit whatever others give back decides.
    if not short or (short[4] == 1 and not fits_later) then short = {'short', counter, frees[i], fits_later and 1 or 0} end
  end
end
if short then return short end

local answer, record = {'leased'}, {}
for i, ask in ipairs(asks) do
  local granted, beyond = ask[3], frees[i] - ask[3]
  local until_ms = redis.call('ZSCORE', WANTED, ask[1])
  if ask[4] > ask[3] and beyond > 0 and not (until_ms and tonumber(until_ms) > now) then
    granted = granted + math.min(ask[4] - ask[3], math.floor(beyond / SHARE))
  end
  set_aside(owner, ask[1], granted)
  answer[i + 1] = granted
  record[i] = '[' .. cjson.encode(ask[1]) .. ',' .. string.format('%.0f', granted) .. ']'
end
redis.call('HSET', answers_key(owner), call, '[' .. table.concat(record, ',') .. ']')
return answer
