-- Fills an opened inbox with conversations from the database.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last_seq of each conversation, and properties of the inbox
-- ARGV[1]  the token of the caller that opened it
-- ARGV[2]  '' if more calls follow, else the version below all that were filled in: the inbox is complete then
-- ARGV[3]  seconds until the inbox expires
-- ARGV[4]  and further triples: a conversation, its last_seq, its version
--
-- Updates that were recorded meanwhile are newer and stay. Returns 0 if another caller has opened the inbox again.
if redis.call('HGET', KEYS[2], '#token') ~= ARGV[1] then
  return 0
end
for i = 4, #ARGV, 3 do
  local before = redis.call('HGET', KEYS[2], ARGV[i])
  if not before or tonumber(before) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  end
  redis.call('ZADD', KEYS[1], 'NX', ARGV[i + 2], ARGV[i])
end
if ARGV[2] ~= '' then
  redis.call('HSET', KEYS[2], '#ready', '1', '#floor', ARGV[2])
  redis.call('HDEL', KEYS[2], '#token')
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
redis.call('EXPIRE', KEYS[2], ARGV[3])
return 1
