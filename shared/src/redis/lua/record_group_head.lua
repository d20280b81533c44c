-- Records the group head of a large group, which has no entries in its members' inboxes.
--
-- KEYS[1]  hash: version and seq
-- ARGV[1]  the group's last_seq
-- ARGV[2]  seconds until the group head expires
--
-- Versions are of the same kind as those of inboxes. A repeated call changes nothing.
local before = redis.call('HMGET', KEYS[1], 'version', 'seq')
if before[2] and tonumber(before[2]) >= tonumber(ARGV[1]) then
  return 0
end
local time = redis.call('TIME')
local version = math.max(time[1] * 1000000 + time[2], tonumber(before[1] or '0') + 1)
redis.call('HSET', KEYS[1], 'version', string.format('%.0f', version), 'seq', ARGV[1])
redis.call('EXPIRE', KEYS[1], ARGV[2])
return 1
