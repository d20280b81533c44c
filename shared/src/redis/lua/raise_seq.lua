-- Reserves new numbers of one conversation, all above a given one.
--
-- KEYS[1]  counter of the conversation
-- ARGV[1]  the counter is raised to this first, if it is lower or missing
-- ARGV[2]  the count of numbers
--
-- Returns the last one. A repeated call reserves further numbers; the earlier ones are never used.
--
-- A counter that no message can have (another program wrote it) counts as missing, as in next_seq.lua.
local LIMIT = 9007199254000000
local least = tonumber(ARGV[1])
-- MGET, because GET fails on a value of another type.
local value = redis.call('MGET', KEYS[1])[1]
local now = value and string.find(value, '^%d+$') and #value <= 16 and tonumber(value) or -1
if now < least or now > LIMIT then
  redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('INCRBY', KEYS[1], ARGV[2])
