-- Shared by every script about a model; runs before each of them, after clock.lua, money.lua and order.lua. KEYS[1..9] are
-- keys.of_model(model); KEYS[10], where there is one, is the task's hash. ARGV[1] is the time, ARGV[2] how long ended tasks
-- are kept in ms, ARGV[3] how many of them are listed, ARGV[4] and on are the script's own.
local TASKS, DEAD, DELAYED, LEASES, ENDED, BELL, USAGE, MODELS =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local TTL_MS, KEPT = ARGV[2], ARGV[3]

-- The group exists before the first task, so that KEDA finds a lag of 0 and not an error.
local function ensure_group()
  if redis.call('EXISTS', TASKS) == 0 then
    redis.call('XGROUP', 'CREATE', TASKS, GROUP, '0', 'MKSTREAM', 'ENTRIESREAD', '0')
  end
end

-- Wake one worker. More than one element is never needed: who takes the last it can carry rings again.
local function ring()
  if redis.call('EXISTS', BELL) == 0 then
    redis.call('LPUSH', BELL, '1')
  end
end

-- Whether the entry with this id was added before the other one (nil: nobody knows of any).
local function is_before(id, other)
  if not other then return false end
  if #id == #other then return id < other end
  local ms, number = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) < tonumber(other_ms) end
  return tonumber(number) < tonumber(other_number)
end

-- Take an entry out of the stream so that the group's lag stays exact. XDEL alone leaves a tombstone: while one lies
-- at or behind the group's position, XINFO reports a lag of nil, and an entry deleted before its delivery is counted
-- for ever. XSETID takes the tombstone back, and for an undelivered entry also its count. Of a delivered entry before the
-- last one (`read`, as claim.lua wrote it down) the tombstone is harmless, and all this is most of what a drop costs.
local function drop_entry(entry, delivered)
  if delivered then
    redis.call('XACK', TASKS, GROUP, entry)
  end
  if redis.call('XDEL', TASKS, entry) == 0 or (delivered and is_before(entry, redis.call('HGET', ORDER, 'read'))) then
    return
  end
  local info = redis.call('XINFO', 'STREAM', TASKS)
  local last, added
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then last = info[i + 1] end
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
  if not delivered then added = added - 1 end
  redis.call('XSETID', TASKS, last, 'ENTRIESADDED', added, 'MAXDELETEDID', '0-1')
end

local function add_ticket()
  redis.call('XADD', TASKS, '*', 'ticket', '1')
end

-- A task waits, and so does one more ticket. Which ticket stands for it is decided when it is taken.
local function let_wait(id, share)
  ensure_group()
  begin_to_wait(share, id)
  add_ticket()
  ring()
end

local function enqueue(key, id)
  redis.call('HSET', key, 'state', 'queued')
  redis.call('HDEL', key, 'due', 'entry')
  let_wait(id, share_in(key))
end

-- A task does not wait any more, and was not taken: one ticket less. The newest is one that was not delivered, since they
-- are delivered in their order and there are as many as tasks that wait. One of the version before has its own.
local function leave_queue(key, id)
  if stop_waiting(share_in(key), id) then
    drop_entry(redis.call('XREVRANGE', TASKS, '+', '-', 'COUNT', '1')[1][1], false)
  else
    drop_entry(field(key, 'entry'), false)
  end
end

-- The usage record of a task that ends without one from its worker: each task leaves exactly one. `why`: nil, or the reason.
local function empty_usage(key, id, status, why)
  local head = cjson.decode(field(key, 'head'))
  local replays = field(key, 'replays')
  local submitted = tonumber(field(key, 'submitted'))
  local attempts = tonumber(field(key, 'failed') or '0')
  if status ~= 'failed' and field(key, 'state') == 'running' then attempts = attempts + 1 end
  return cjson.encode({
    id = replays and (id .. '.' .. replays) or id,
    kind = head.model == AGENT_STEPS and 'step' or 'task', status = status, tenant = head.tenant, key_id = head.key_id, model = head.model,
    team = head.team, session = head.session, run = head.run, agent = head.agent,
    prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0, nano_usd = 0,
    started_at = submitted / 1000, ended_at = now / 1000, attempts = attempts, reason = why,
  })
end

-- Somebody wants to be told of the end of this life, and it is known from this step on that they are to be.
local function owe_callback(key, id)
  if string.find(field(key, 'head'), '"callback":', 1, true) then
    redis.call('ZADD', CALLBACKS, now, (field(key, 'replays') or '0') .. ':' .. id)
  end
end

-- What every end has in common: `state` is the word for the task, `status` the one for its usage.
local function end_task(key, id, state, status, usage, why)
  usage = with_used(key, usage == '' and empty_usage(key, id, status, why) or usage)
  settle_hold(key, usage)
  redis.call('HSET', key, 'state', state, 'ended', now)
  clear(key, 'due', 'unpaid', 'partial')
  owe_callback(key, id)
  redis.call('XADD', USAGE, '*', 'r', usage)
  redis.call('PEXPIRE', CHUNKS_PREFIX .. id, math.min(tonumber(TTL_MS), CHUNKS_MS))
  redis.call('PUBLISH', EVENTS, id)
end

local function finish(key, id, state, usage, why)
  redis.call('HDEL', key, 'entry')
  end_task(key, id, state, state, usage, why)
  redis.call('XADD', ENDED, 'MAXLEN', '~', KEPT, '*', 'id', id, 'state', state)
  redis.call('PEXPIRE', key, TTL_MS)
end

local function bury(key, id, reason, error, usage)
  local entry = redis.call('XADD', DEAD, '*', 'id', id, 'reason', reason)
  redis.call('HSET', key, 'error', error, 'entry', entry)
  end_task(key, id, 'dead', 'failed', usage, reason)
end

-- A dead letter, here or in another queue, is one no more; the task is `state` from now on, and forgotten after `ttl_ms`.
local function leave_letters(key, id, state, ttl_ms)
  local entry = field(key, 'entry')
  if entry then redis.call('XDEL', DEAD, entry) end
  redis.call('HDEL', key, 'entry')
  redis.call('HSET', key, 'state', state)
  redis.call('XADD', ENDED, 'MAXLEN', '~', KEPT, '*', 'id', id, 'state', state)
  redis.call('PEXPIRE', key, ttl_ms)
end

local function bury_late(key, id, usage)
  local message = 'the deadline of the task passed before it was done'
  bury(key, id, message, cjson.encode({message = message, type = 'timeout_error', code = 'deadline_exceeded'}), usage)
end

-- The record of a task that died, whatever its worker called the attempt.
local function as_failed(usage)
  return (string.gsub(usage, '"status":"%a+"', '"status":"failed"', 1))
end

local UNIT_WORDS = {nano_usd = 'dollars', concurrent = 'requests at once'}

-- `short`: the counter that has too little left. The same words stand in `tasks.unpaid_error`.
local function bury_unpaid(key, id, usage, short)
  local kind, unit, window = string.match(short, '^([^:]*):[^:]*:([^:]*):([^:]*)')
  local message = 'what its failed attempts have used and one more attempt do not fit the ' .. kind .. "'s budget of "
    .. (UNIT_WORDS[unit] or unit) .. (window == 'total' and '' or ' per ' .. window)
  local error = cjson.encode({message = message, type = 'insufficient_quota', code = 'budget_exhausted'})
  bury(key, id, message, error, as_failed(usage))
end

local function is_late(key, at)
  local deadline = field(key, 'deadline')
  return deadline and at >= tonumber(deadline)
end

local function delay(key, id, at)
  redis.call('ZADD', DELAYED, at, id)
  redis.call('HSET', key, 'state', 'retrying', 'due', at)
  redis.call('HDEL', key, 'entry')
end

-- Back to the stream, now or at `at` (ms).
local function go_back(key, id, at)
  if at <= now then enqueue(key, id) else delay(key, id, at) end
end

-- Another attempt, at `at` or later, if it can be paid for. Where it could with what gateways would give back at their
-- next renewal, they are asked to, and reclaim.lua looks again after that.
local function try_again(key, id, usage, at)
  local short, wanted = hold_for_another(key, usage)
  if not short then
    go_back(key, id, at)
  elseif not wanted then
    bury_unpaid(key, id, usage, short)
  elseif is_late(key, now + GIVE_BACK_MS) then
    bury_late(key, id, as_failed(usage))
  else
    wait_for_another(key, usage, wanted)
    redis.call('HSET', key, 'unpaid', at)
    delay(key, id, now + GIVE_BACK_MS)
  end
end

-- Another attempt that goes on where this one ended. Of what the task holds for an attempt, this one's part is used now, and
-- the rest is what the next one can take: so there is nothing more to hold.
local function go_on(key, id, usage, partial, at)
  remember_used(key, used_with(key, usage))
  redis.call('HSET', key, 'partial', partial)
  go_back(key, id, at)
end

-- A failed attempt: remember why, then back to the stream (retry_ms 0), to the delayed ones, or to the dead letters.
-- `partial`: what its answer had come to, for the next one to go on with, or ''.
local function attempt_failed(key, id, reason, retry_ms, error, usage, partial)
  local failed = redis.call('HINCRBY', key, 'failed', 1)
  local line = cjson.encode({
    number = failed, worker = field(key, 'worker'), reason = reason,
    started = tonumber(field(key, 'started')), ended = now,
  })
  local history = field(key, 'history')
  redis.call('HSET', key, 'history', history and (history .. '\n' .. line) or line)
  if not retry_ms or failed >= cjson.decode(field(key, 'head')).max_attempts then
    return bury(key, id, reason, error, usage)
  end
  if is_late(key, now + retry_ms) then return bury_late(key, id, usage) end
  if partial ~= '' then return go_on(key, id, usage, partial, now + retry_ms) end
  redis.call('HDEL', key, 'partial')
  try_again(key, id, usage, now + retry_ms)
end

-- Its worker or its engine went away under it, which may be its own fault or that of what ran beside it. Its last attempt
-- is made with nothing beside it: then it is known whose fault it was, and nobody dies of a neighbour.
local function runs_alone(head, lost, failed)
  return lost and tonumber(failed or '0') + 1 >= cjson.decode(head).max_attempts
end

local function is_held(key, token)
  return field(key, 'state') == 'running' and field(key, 'token') == token
end

-- First step of whatever finishes a claim. 'mine': go on. 'again': this very call was made before, its answer may have
-- been lost on the way. 'not mine': another claim is newer, or the task has ended. `usage`: of this attempt, '' for none.
local function finishing(key, id, token, step, usage)
  local mark = token .. ':' .. step
  if field(key, 'last') == mark then return 'again' end
  if not is_held(key, token) then return 'not mine' end
  redis.call('HSET', key, 'last', mark)
  redis.call('ZREM', LEASES, id)
  drop_entry(field(key, 'entry'), true)
  correct_share(key, number_in(usage, 'prompt_tokens') + number_in(usage, 'completion_tokens'))
  return 'mine'
end
