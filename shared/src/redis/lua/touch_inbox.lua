-- Notes in the inboxes of users that a conversation has changed.
--
-- KEYS     pairs, one for each user: the sorted set of conversations by version; the hash with the last number of each
--          conversation, whose '#last' is the highest version
-- ARGV[1]  the conversation
-- ARGV[2]  its last number, or ''
-- ARGV[3]  '1' where something else about it changed
--
-- A user without an inbox gets none: whoever asks for it first builds it from the database. Sent again, it changes
-- nothing, unless something else changed. Returns in how many inboxes it was noted.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local seq = tonumber(ARGV[2]) or 0
local touched = 0
for i = 1, #KEYS, 2 do
  local heads = KEYS[i + 1]
  local known = redis.call('HMGET', heads, '#last', ARGV[1])
  local before = tonumber(known[2] or '-1')
  if known[1] and (ARGV[3] == '1' or before < seq) then
    local version = string.format('%.0f', math.max(now, tonumber(known[1]) + 1))
    redis.call('HSET', heads, ARGV[1], string.format('%.0f', math.max(before, seq)), '#last', version)
    redis.call('ZADD', KEYS[i], version, ARGV[1])
    touched = touched + 1
  end
end
return touched
