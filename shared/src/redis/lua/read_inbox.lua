-- Reads what changed in one user's inbox.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last number of each conversation, and facts about the inbox
-- ARGV[1]  the version after which (rising) or before which (falling) to read
-- ARGV[2]  how many at most
-- ARGV[3]  '1' to read falling
-- ARGV[4]  seconds until the inbox expires, counted anew from here
--
-- Returns {now, whole, floor, last}, then a conversation, its version and its last number for each entry. whole is 1 if
-- the inbox can be believed: it was built to the end, and by the server that still runs. One that was restarted may have
-- come back with an earlier state.
local time = redis.call('TIME')
local now = string.format('%.0f', time[1] * 1000000 + time[2])
local facts = redis.call('HMGET', KEYS[2], '#ready', '#run', '#floor', '#last')
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not facts[1] or facts[2] ~= run then
  return {now, 0, '0', '0'}
end
redis.call('EXPIRE', KEYS[1], ARGV[4])
redis.call('EXPIRE', KEYS[2], ARGV[4])
local answer = {now, 1, facts[3], facts[4]}
if ARGV[2] == '0' then
  return answer
end
local entries
if ARGV[3] == '1' then
  entries = redis.call('ZREVRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '-inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
else
  entries = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf', 'WITHSCORES', 'LIMIT', 0, ARGV[2])
end
for i = 1, #entries, 2 do
  answer[#answer + 1] = entries[i]
  answer[#answer + 1] = string.format('%.0f', tonumber(entries[i + 1]))
  answer[#answer + 1] = redis.call('HGET', KEYS[2], entries[i]) or '0'
end
return answer
