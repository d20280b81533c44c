-- Records updates of conversations in the inboxes of users.
--
-- KEYS  for each user of each conversation a pair: the sorted set of conversations by version; the hash with the last_seq
--       of each conversation, whose '#last' is the highest version
-- ARGV  four for each conversation: the number of users; the conversation; its last_seq, or ''; '1' if something else of
--       it changed
--
-- A user without an inbox gets no entry: its first sync builds the inbox from the database. A repeated call changes
-- nothing, unless something else changed. Returns the number of changed inboxes.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local updated = 0
local key = 1
for arg = 1, #ARGV, 4 do
  local conversation, seq, other = ARGV[arg + 1], tonumber(ARGV[arg + 2]) or 0, ARGV[arg + 3] == '1'
  for _ = 1, tonumber(ARGV[arg]) do
    local heads = KEYS[key + 1]
    local known = redis.call('HMGET', heads, '#last', conversation)
    local before = tonumber(known[2] or '-1')
    if known[1] and (other or before < seq) then
      local version = string.format('%.0f', math.max(now, tonumber(known[1]) + 1))
      redis.call('HSET', heads, conversation, string.format('%.0f', math.max(before, seq)), '#last', version)
      redis.call('ZADD', KEYS[key], version, conversation)
      updated = updated + 1
    end
    key = key + 2
  end
end
return updated
