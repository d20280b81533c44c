-- Notes in one user's inbox that conversations have changed.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last number of each conversation; '#last' is the highest version
-- ARGV     triples: a conversation, its last number or '', and '1' where something else about it changed
--
-- A user without an inbox gets none: whoever asks for it first builds it from the database. Sent again, it changes
-- nothing, unless something else changed.
if redis.call('EXISTS', KEYS[2]) == 0 then
  return 0
end
local time = redis.call('TIME')
local version = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('HGET', KEYS[2], '#last') or '0') + 1)
local touched = 0
for i = 1, #ARGV, 3 do
  local before = tonumber(redis.call('HGET', KEYS[2], ARGV[i]) or '-1')
  local seq = tonumber(ARGV[i + 1]) or 0
  if ARGV[i + 2] == '1' or before < seq then
    redis.call('HSET', KEYS[2], ARGV[i], string.format('%.0f', math.max(before, seq)))
    redis.call('ZADD', KEYS[1], string.format('%.0f', version + touched), ARGV[i])
    touched = touched + 1
  end
end
if touched > 0 then
  redis.call('HSET', KEYS[2], '#last', string.format('%.0f', version + touched - 1))
end
return touched
