-- Reserves new numbers of one conversation, all above a given one.
--
-- KEYS[1]  counter of the conversation
-- ARGV[1]  the counter is raised to this first, if it is lower or missing
-- ARGV[2]  the count of numbers
--
-- Returns the last one. A repeated call reserves further numbers; the earlier ones are never used.
local least = tonumber(ARGV[1])
local now = tonumber(redis.call('GET', KEYS[1]) or '0')
if now < least then
  redis.call('SET', KEYS[1], ARGV[1])
end
return redis.call('INCRBY', KEYS[1], ARGV[2])
