-- Notes the last number of a large group, which has no place in its members' inboxes.
--
-- KEYS[1]  hash: version and seq
-- ARGV[1]  the group's last number
-- ARGV[2]  seconds after which the note may be forgotten
--
-- Versions are of the same kind as those of inboxes. Sent again, it changes nothing.
local before = redis.call('HMGET', KEYS[1], 'version', 'seq')
if before[2] and tonumber(before[2]) >= tonumber(ARGV[1]) then
  return 0
end
local time = redis.call('TIME')
local version = math.max(time[1] * 1000000 + time[2], tonumber(before[1] or '0') + 1)
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version), 'seq', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
