-- Numbers a batch of messages of one conversation.
--
-- KEYS[1]    counter of the conversation
-- KEYS[2..]  one key per message, remembering the number that its id got; a key may occur twice
-- ARGV[1]    seconds for which an id is remembered
-- ARGV[2]    what to set a missing counter to, or '' not to
-- ARGV[3]    '1' if numbers above ARGV[2] begin after a jump (the conversation is older than the counter)
--
-- Returns {} if the counter is missing and ARGV[2] is ''. Otherwise {jump, number...}: jump is 1 if the first new number
-- follows a jump; a number that was given before is negative.
--
-- Sent again after a lost answer, it returns the same numbers, as known ones.
local jump = 0
if redis.call('EXISTS', KEYS[1]) == 0 then
  if ARGV[2] == '' then
    return {}
  end
  redis.call('SET', KEYS[1], ARGV[2])
  jump = tonumber(ARGV[3])
end
local known = redis.call('MGET', unpack(KEYS, 2))
local given, fresh, count = {}, {}, 0
for i = 1, #known do
  local key = KEYS[i + 1]
  if known[i] then
    given[i] = -tonumber(known[i])
  elseif fresh[key] then
    given[i] = -fresh[key]
  else
    count = count + 1
    fresh[key] = count
    given[i] = count
  end
end
if count > 0 then
  local base = redis.call('INCRBY', KEYS[1], count) - count
  for i = 1, #known do
    if not known[i] then
      local number = base + fresh[KEYS[i + 1]]
      if given[i] > 0 then
        redis.call('SET', KEYS[i + 1], string.format('%.0f', number), 'EX', ARGV[1])
        given[i] = number
      else
        given[i] = -number
      end
    end
  end
end
return {jump, unpack(given)}
