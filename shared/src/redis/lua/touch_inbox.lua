-- Notes in one user's inbox that conversations have changed.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last number of each conversation; '#last' is the highest version
-- ARGV     pairs: a conversation and its last number, or '' where something else about it changed
--
-- A user without an inbox gets none: whoever asks for it first builds it from the database. Sent again, it changes
-- nothing, unless the number was ''.
if redis.call('EXISTS', KEYS[2]) == 0 then
  return 0
end
local time = redis.call('TIME')
local version = math.max(time[1] * 1000000 + time[2], tonumber(redis.call('HGET', KEYS[2], '#last') or '0') + 1)
local touched = 0
for i = 1, #ARGV, 2 do
  local before = redis.call('HGET', KEYS[2], ARGV[i])
  local seq = tonumber(ARGV[i + 1])
  if not seq or not before or tonumber(before) < seq then
    redis.call('HSET', KEYS[2], ARGV[i], seq and ARGV[i + 1] or before or '0')
    redis.call('ZADD', KEYS[1], string.format('%.0f', version + touched), ARGV[i])
    touched = touched + 1
  end
end
if touched > 0 then
  redis.call('HSET', KEYS[2], '#last', string.format('%.0f', version + touched - 1))
end
return touched
