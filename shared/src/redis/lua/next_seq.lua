-- Numbers a batch of messages of several conversations.
--
-- KEYS     for each conversation its counter, then one key per message, which stores the number of its id; a key may occur
--          twice
-- ARGV[1]  seconds for which an id is remembered
-- ARGV     then for each conversation: the number of messages; the value of a missing counter, or '' not to set it; '1' if
--          the numbers above that value follow a jump (the conversation is older than the counter); and one fingerprint of
--          the content per message, nine digits
--
-- Returns for each conversation -1 if its counter is missing and is not to be set; otherwise 1 if the first new number
-- follows a jump, 0 if not, and then the numbers: one that was assigned before is negative, and followed by the fingerprint of
-- the message that it was assigned to, or -1 if that is not known.
--
-- The value of an id is '<number>.0<fingerprint>'. Earlier versions of this script store and expect '<number>'; they read
-- this value as the same number, because they convert it to a number and Redis cuts off the fraction. (The 0 keeps the
-- fraction below 0.1, so that rounding never reaches the next number.)
--
-- A repeated call returns the same numbers, as assigned before.
--
-- A counter, or the number of an id, that no message can have (another program wrote it) counts as missing. Numbers end at
-- 2^53 - 1, the largest that every JSON parser reads; a counter that comes near it was not raised by messages.
local LIMIT = 9007199254000000
local function usable(value, pattern)
  local number = string.match(value, pattern)
  return number and #number <= 16 and tonumber(number) <= LIMIT
end
local answer = {}
local key = 1
local arg = 2
while arg <= #ARGV do
  local counter, count = KEYS[key], tonumber(ARGV[arg])
  local prints = arg + 2
  local known = redis.call('MGET', unpack(KEYS, key, key + count))
  for i = 1, count + 1 do
    if known[i] and not usable(known[i], i == 1 and '^(%d+)$' or '^(%d+)%.?%d*$') then
      known[i] = false
    end
  end
  local jump = 0
  if not known[1] and ARGV[arg + 1] ~= '' then
    redis.call('SET', counter, ARGV[arg + 1])
    known[1] = ARGV[arg + 1]
    jump = tonumber(ARGV[arg + 2])
  end
  if not known[1] then
    answer[#answer + 1] = -1
  else
    local fresh, first, new = {}, {}, 0
    for i = 1, count do
      local name = KEYS[key + i]
      if not known[i + 1] and not fresh[name] then
        new = new + 1
        fresh[name] = new
        first[name] = ARGV[prints + i]
      end
    end
    local base = 0
    if new > 0 then
      base = redis.call('INCRBY', counter, new) - new
    end
    answer[#answer + 1] = jump
    local given = 0
    for i = 1, count do
      local name = KEYS[key + i]
      if known[i + 1] then
        local number, print = string.match(known[i + 1], '^(%d+)%.?0?(%d*)$')
        answer[#answer + 1] = -tonumber(number)
        answer[#answer + 1] = tonumber(print) or -1
      else
        local number = base + fresh[name]
        if fresh[name] > given then
          given = fresh[name]
          redis.call('SET', name, string.format('%.0f.0', number) .. first[name], 'EX', ARGV[1])
          answer[#answer + 1] = number
        else
          answer[#answer + 1] = -number
          answer[#answer + 1] = tonumber(first[name])
        end
      end
    end
  end
  key = key + count + 1
  arg = arg + 3 + count
end
return answer
