-- Around a script about one task: does its step for each task, each as if it were alone. KEYS[1] and on are those of the
-- model, the last ones the tasks'. ARGV[1] to ARGV[3] are alike for all, ARGV[4] says how many steps there are; then comes
-- of each step how many arguments are its own, and those: its ARGV[4] and on. Returns what each returned, or its error.
local function step(KEYS, ARGV)
STEP()
end

local count, place, answers = tonumber(ARGV[4]), 5, {}
for i = 1, count do
  local args, own = {ARGV[1], ARGV[2], ARGV[3]}, tonumber(ARGV[place])
  for j = 1, own do args[3 + j] = ARGV[place + j] end
  place = place + own + 1
  local is_done, answer = pcall(step, {[10] = KEYS[#KEYS - count + i]}, args)
  if not is_done and type(answer) ~= 'table' then answer = {err = answer} end
  answers[i] = answer or false
end
return answers
