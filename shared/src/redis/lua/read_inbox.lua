-- Reads a page of one user's inbox.
--
-- KEYS[1]  sorted set: conversation by version
-- KEYS[2]  hash: the last_seq of each conversation, and properties of the inbox
-- ARGV[1]  the version after which (ascending) or before which (descending) to read
-- ARGV[2]  most entries
-- ARGV[3]  '1' to read in descending order
-- ARGV[4]  seconds until the inbox expires, from now
--
-- Returns {now, valid, floor, last}, then a conversation, its version and its last_seq for each entry. valid is 1 if the
-- inbox was filled completely, and by this run of the server: after a restart the server may have an earlier state.
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
